"""The augmentation that a configuration names."""

import numpy as np

from effnetv2_jax.data.augment.augmentation import operation_scales
from effnetv2_jax.data.augment.gallery import operation_gallery
from effnetv2_jax.data.augment.operations import AUTOAUGMENT_SCALES, RANDAUGMENT_SCALES, Scales
from effnetv2_jax.data.config import DataConfig

TEST_IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def test_size_relative_scales_grow_with_the_image_size():
    absolute, relative = (
        operation_scales(DataConfig(augmentation="randaugment", size_relative=choice), 56) for choice in (False, True)
    )
    assert absolute == RANDAUGMENT_SCALES
    assert relative == Scales(translate=25.0, cutout=10.0)
    moved = [operation_gallery(TEST_IMAGE, 1.0, scales=scales)["TranslateX"] for scales in (absolute, relative)]
    np.testing.assert_array_equal(moved[1][:, :-3], TEST_IMAGE[:, 3:])
    np.testing.assert_array_equal(moved[0][:, :-10], TEST_IMAGE[:, 10:])


def test_autoaugment_has_its_own_scales():
    assert operation_scales(DataConfig(augmentation="autoaugment"), 56) == AUTOAUGMENT_SCALES
