"""Floating-point operations: how many training needs, and how many the devices can do."""

from __future__ import annotations

import jax

from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.summary import count_multiply_adds
from effnetv2_jax.train.devices.chips import chip_of

# A training step costs about three forward passes, and a multiply-add is two operations.
_OPERATIONS_PER_MULTIPLY_ADD = 6


def training_flops(spec: ModelSpec, image_size: int, num_classes: int) -> float:
    """Returns the floating-point operations that training on one image takes, computed from the spec."""
    return float(_OPERATIONS_PER_MULTIPLY_ADD * count_multiply_adds(spec, image_size, num_classes))


def peak_flops(devices: list[jax.Device]) -> float | None:
    """Returns the peak bfloat16 operations per second of all devices together, or None if it is unknown."""
    chip = chip_of(devices[0].device_kind)
    return len(devices) * chip.peak_flops / chip.devices if chip else None
