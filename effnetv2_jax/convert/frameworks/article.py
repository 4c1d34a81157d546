"""The framework article, the plain PyTorch EffNetV2 of a paper-reading article.

Source: d-li14/efficientnetv2.pytorch effnetv2.py; it keeps PyTorch's BatchNorm epsilon.
"""

from __future__ import annotations

from effnetv2_jax.convert.frameworks import pytorch
from effnetv2_jax.convert.frameworks.architecture import Architecture
from effnetv2_jax.convert.frameworks.framework import Framework, ModuleNames
from effnetv2_jax.convert.frameworks.layout import Layout
from effnetv2_jax.model.variants import VARIANTS

ARTICLE = Framework(
    name="article",
    names=ModuleNames(
        stem=("features.0.0", "features.0.1"),
        head=("conv.0", "conv.1"),
        classifier="classifier",
        block="features.{next_block}.conv.",
        blocks=(
            {"fused": ("0", "1"), "project": ("3", "4")},
            {"expand": ("0", "1"), "depthwise": ("3", "4"), "se": ("6.fc.0", "6.fc.2"), "project": ("7", "8")},
        ),
        leaves=pytorch.LEAVES,
    ),
    layouts={**pytorch.LAYOUTS, "squeeze": Layout((3, 2, 0, 1), flat=True)},  # its squeeze is two linear layers
    formats=pytorch.FORMATS,
    architectures={
        variant: Architecture(
            variant.replace("article-", "effnetv2_"), "symmetric", 1e-5, spec.preprocessing, spec.eval_size
        )
        for variant, spec in VARIANTS.items()
        if spec.projects_expand_1
    },
    padding="symmetric",
    bn_epsilon=1e-5,
    projects_expand_1=True,
    is_pytorch=True,
)
