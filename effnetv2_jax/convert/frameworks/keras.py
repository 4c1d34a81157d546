"""The framework keras: the networks of `keras.applications.efficientnet_v2`.

By default, these networks begin with layers that normalise images of 0..255. The layers have no weights. Here they are
the preprocessing family, so that a network of this project gives the same logits for images that are normalised before.

Source: keras 3.15.1 applications/efficientnet_v2.py for the names; its `include_preprocessing` for the families, which
are those of the official weights; `layers.BatchNormalization` for epsilon.
"""

from __future__ import annotations

from effnetv2_jax.convert.frameworks.architecture import Architecture
from effnetv2_jax.convert.frameworks.framework import IMAGENET, Framework, ModuleNames
from effnetv2_jax.convert.frameworks.layout import FLAX_LAYOUTS, Layout
from effnetv2_jax.model.variants import VARIANTS

_NAMES = ("b0", "b1", "b2", "b3", "s", "m", "l")
_PROJECT = ("project_conv", "project_bn")
_EXPAND = ("expand_conv", "expand_bn")

KERAS = Framework(
    name="keras",
    names=ModuleNames(
        stem=("stem_conv", "stem_bn"),
        head=("top_conv", "top_bn"),
        classifier="predictions",
        block="block{next_row}{letter}_",
        blocks=(
            {"fused": _PROJECT},
            {"fused": _EXPAND, "project": _PROJECT},
            {"expand": _EXPAND, "depthwise": ("dwconv2", "bn"), "se": ("se_reduce", "se_expand"), "project": _PROJECT},
        ),
        leaves={
            "kernel": "kernel",
            "depthwise_kernel": "kernel",  # the reader gives Keras 2's `depthwise_kernel` this name, too
            "bias": "bias",
            "scale": "gamma",
            "offset": "beta",
            "mean": "moving_mean",
            "variance": "moving_variance",
        },
        separator="/",
    ),
    layouts={**FLAX_LAYOUTS, "depthwise": Layout((0, 1, 3, 2))},  # Keras's depthwise kernel is [k, k, C, 1]
    formats=("h5",),
    architectures={
        f"efficientnetv2-{name}": Architecture(
            f"EfficientNetV2{name.upper()}", "same", 1e-3, spec.preprocessing, spec.eval_size
        )
        for name in _NAMES
        for spec in (VARIANTS[f"efficientnetv2-{name}"],)
    },
    padding="same",
    bn_epsilon=1e-3,
    is_target=False,
    label_sets=IMAGENET,
)
