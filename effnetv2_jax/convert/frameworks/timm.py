"""timm, with its `tf_` networks, which compute as the official ones do.

Source: timm models/_efficientnet_blocks.py and models/efficientnet.py for the names; `pad_type="same"` and
BN_EPS_TF_DEFAULT of the `tf_` networks for padding and epsilon.
"""

from __future__ import annotations

import functools
from typing import Any

from effnetv2_jax.convert.frameworks import pytorch
from effnetv2_jax.convert.frameworks.framework import IMAGENET, Architecture, Framework, ModuleNames
from effnetv2_jax.convert.frameworks.timm_config import timm_config
from effnetv2_jax.model.variants import VARIANTS

_SQUEEZE = ("se.conv_reduce", "se.conv_expand")


def _build(timm: Any, name: str, num_classes: int) -> Any:
    return timm.create_model(name, pretrained=False, num_classes=num_classes)


TIMM = Framework(
    name="timm",
    names=ModuleNames(
        stem=("conv_stem", "bn1"),
        head=("conv_head", "bn2"),
        classifier="classifier",
        block="blocks.{row}.{repeat}.",
        blocks=(
            {"fused": ("conv", "bn1")},
            {"fused": ("conv_exp", "bn1"), "project": ("conv_pwl", "bn2")},
            {"depthwise": ("conv_dw", "bn1"), "se": _SQUEEZE, "project": ("conv_pw", "bn2")},
            {
                "expand": ("conv_pw", "bn1"),
                "depthwise": ("conv_dw", "bn2"),
                "se": _SQUEEZE,
                "project": ("conv_pwl", "bn3"),
            },
        ),
        leaves=pytorch.LEAVES,
    ),
    layouts=pytorch.LAYOUTS,
    formats=pytorch.FORMATS,
    architectures={
        variant: Architecture("tf_" + variant.replace("-", "_"), "same", 1e-3, spec.preprocessing, spec.eval_size)
        for variant, spec in VARIANTS.items()
        if not spec.projects_expand_1
    },
    padding="same",
    bn_epsilon=1e-3,
    is_pytorch=True,
    run=functools.partial(pytorch.run_network, "timm", _build),
    folder_config=timm_config,
    label_sets=IMAGENET,
)
