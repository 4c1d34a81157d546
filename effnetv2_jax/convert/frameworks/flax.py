"""The framework flax, which is this project: tensors have the paths and layouts of our own variables."""

from __future__ import annotations

from effnetv2_jax.convert.frameworks.framework import Framework
from effnetv2_jax.convert.frameworks.layout import FLAX_LAYOUTS

FLAX = Framework(
    name="flax",
    names=None,
    layouts=FLAX_LAYOUTS,
    formats=("safetensors", "huggingface", "run"),
)
