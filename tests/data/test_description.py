"""The sentence about what happens to training images."""

import pytest

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.description import describe_training_images


@pytest.mark.parametrize(
    ("fields", "phrases"),
    [
        (
            {},
            [
                "random crops of 5–100 % of each image",
                "half of them mirrored (--config.data.flip=False",
                "RandAugment with 2 operations",
                "no square of noise",
            ],
        ),
        (
            {"preprocessing": "finetune", "augmentation": "none", "cutout": True, "flip": False},
            ["whole images squashed to a square", "none mirrored", "no RandAugment", "a square of noise on each"],
        ),
        ({"preprocessing": "legacy", "augmentation": "autoaugment"}, ["crops of 10–100 %", "AutoAugment"]),
        ({"preprocessing": "finetune", "min_crop_area": 0.8, "layers": 0}, ["crops of 80–100 %", "no RandAugment"]),
    ],
)
def test_the_sentence_says_what_is_done(fields, phrases):
    sentence = describe_training_images(DataConfig(**fields))
    assert "\n" not in sentence
    assert all(phrase in sentence for phrase in phrases), sentence
