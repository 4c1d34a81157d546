"""The framework timm. Only its `tf_` networks are used, because they compute the same as the official ones.

Source: timm models/_efficientnet_blocks.py and models/efficientnet.py for the names; `pad_type="same"` and
BN_EPS_TF_DEFAULT of the `tf_` networks for padding and epsilon.
"""

from __future__ import annotations

import functools

from effnetv2_jax.convert.frameworks import pytorch
from effnetv2_jax.convert.frameworks.architecture import Architecture
from effnetv2_jax.convert.frameworks.framework import IMAGENET, Framework, ModuleNames
from effnetv2_jax.convert.frameworks.timm_config import BN_EPSILON, arithmetic_arguments, described_weights, timm_config
from effnetv2_jax.convert.frameworks.timm_network import build, find_network, timm_name
from effnetv2_jax.model.variants import VARIANTS

_SQUEEZE = ("se.conv_reduce", "se.conv_expand")


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
        variant: Architecture(timm_name(variant), "same", BN_EPSILON, spec.preprocessing, spec.eval_size)
        for variant, spec in VARIANTS.items()
        if not spec.projects_expand_1
    },
    padding="same",
    bn_epsilon=BN_EPSILON,
    is_pytorch=True,
    find_network=find_network,
    package="timm",
    run=functools.partial(pytorch.run_network, "timm", build),
    folder_config=timm_config,
    folder_arguments=arithmetic_arguments,
    folder_description=functools.partial(
        described_weights,
        variants={timm_name(variant): variant for variant, spec in VARIANTS.items() if not spec.projects_expand_1},
    ),
    label_sets=IMAGENET,
)
