"""The devices' peak and what training needs of it."""

import pytest

from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.train.devices import throughput


class Kind:
    def __init__(self, device_kind):
        self.device_kind = device_kind


def test_peaks_are_those_of_all_devices_where_they_are_on_record():
    assert throughput.peak_flops([Kind("TPU v5 lite")] * 8) == pytest.approx(8 * 197e12)
    assert throughput.peak_flops([Kind("TPU v3")] * 8) == pytest.approx(4 * 123e12)
    assert throughput.peak_flops([Kind("cpu")]) is None


def test_training_takes_three_forward_passes():
    # Source: 8.8 billion multiply-adds of the published S at 384 px count squeeze and excitation otherwise.
    assert throughput.training_flops(VARIANTS["efficientnetv2-s"], 384, 1000) == pytest.approx(6 * 8.366e9, rel=1e-3)
