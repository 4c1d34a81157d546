"""The framework official, which is the TensorFlow code of the papers' authors.

Source: google/automl efficientnetv2/effnetv2_model.py for the names, hparams.py for padding and epsilon.
"""

from __future__ import annotations

from effnetv2_jax.convert.frameworks.architecture import Architecture
from effnetv2_jax.convert.frameworks.framework import IMAGENET, Framework, ModuleNames
from effnetv2_jax.convert.frameworks.layout import FLAX_LAYOUTS, Layout
from effnetv2_jax.model.variants import VARIANTS

_NORM = "tpu_batch_normalization"
_SQUEEZE = ("se/conv2d", "se/conv2d_1")

OFFICIAL = Framework(
    name="official",
    names=ModuleNames(
        stem=("stem/conv2d", f"stem/{_NORM}"),
        head=("head/conv2d", f"head/{_NORM}"),
        classifier="head_1/dense",
        block="blocks_{block}/",
        blocks=(
            {"fused": ("conv2d", _NORM)},
            {"fused": ("conv2d", _NORM), "project": ("conv2d_1", f"{_NORM}_1")},
            {"depthwise": ("depthwise_conv2d", _NORM), "se": _SQUEEZE, "project": ("conv2d", f"{_NORM}_1")},
            {
                "expand": ("conv2d", _NORM),
                "depthwise": ("depthwise_conv2d", f"{_NORM}_1"),
                "se": _SQUEEZE,
                "project": ("conv2d_1", f"{_NORM}_2"),
            },
        ),
        leaves={
            "kernel": "kernel",
            "depthwise_kernel": "depthwise_kernel",
            "bias": "bias",
            "scale": "gamma",
            "offset": "beta",
            "mean": "moving_mean",
            "variance": "moving_variance",
        },
        separator="/",
    ),
    layouts={**FLAX_LAYOUTS, "depthwise": Layout((0, 1, 3, 2))},  # TensorFlow's depthwise kernel is [k, k, C, 1]
    formats=("checkpoint",),
    architectures={
        variant: Architecture(variant, "same", 1e-3, spec.preprocessing, spec.eval_size)
        for variant, spec in VARIANTS.items()
        if not spec.projects_expand_1
    },
    padding="same",
    bn_epsilon=1e-3,
    is_target=False,
    label_sets=IMAGENET,
    # Fine-tuning the 21k weights on ImageNet-1k used another preprocessing, and the names of these archives contain it.
    file_preprocessing={"ft1k": "finetune"},
    # The official V2 code rounds the widths of its V1 networks as it rounds those of V2.
    rounding="nearest",
)
