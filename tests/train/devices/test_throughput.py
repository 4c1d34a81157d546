"""The peak FLOP/s of devices, and the FLOPs of training."""

import pytest

from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.train.devices import throughput


class Kind:
    def __init__(self, device_kind):
        self.device_kind = device_kind


def test_the_peak_is_summed_over_devices_and_unknown_for_other_devices():
    assert throughput.peak_flops([Kind("TPU v5 lite")] * 8) == pytest.approx(8 * 197e12)
    assert throughput.peak_flops([Kind("TPU v3")] * 8) == pytest.approx(4 * 123e12)
    assert throughput.peak_flops([Kind("cpu")]) is None


def test_training_counts_as_three_forward_passes():
    # Source: computed from the spec. The 8.8 billion multiply-adds that the paper gives for S at 384 px count squeeze
    # and excitation differently.
    assert throughput.training_flops(VARIANTS["efficientnetv2-s"], 384, 1000) == pytest.approx(6 * 8.366e9, rel=1e-3)
