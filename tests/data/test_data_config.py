"""The effect of each field of a data configuration, and the values that are refused."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.pipeline import TrainBatches, eval_batches, train_batches

SIZE = 16


def training(config: DataConfig, **changes) -> TrainBatches:
    arguments = {"image_size": SIZE, "magnitude": 5.0, "batch_size": 8, "start_step": 0, "seed": 0} | changes
    return train_batches(config, **arguments)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dataset", "mnist", "'mnist'.* digits"),
        ("train_split", "tran", "unknown split 'tran'"),
        ("eval_split", "train[:10%]", "share 144 examples"),
        ("preprocessing", "v3", "unknown preprocessing 'v3'"),
        ("eval_crop", "left", "data.eval_crop must be '', 'centre' or 'whole', got 'left'"),
        ("augmentation", "trivial", "data.augmentation must be 'randaugment', .* got 'trivial'"),
        ("operations", "mine", "data.operations must be 'official' or 'corrected', got 'mine'"),
        ("min_crop_area", 1.5, "data.min_crop_area 1.5 is outside"),
        ("max_broken", -0.1, "max_broken -0.1"),
        ("layers", -1, "layers -1"),
        ("threads", -1, "threads -1"),
        ("shuffle_buffer", 0, "shuffle_buffer 0"),
        ("memory_gb", -1.0, "memory_gb -1.0"),
    ],
)
def test_wrong_fields_are_refused_before_anything_is_read(digits, field, value, message):
    config = dataclasses.replace(digits, augmentation="randaugment")
    setattr(config, field, value)
    with pytest.raises(ValueError, match=message):
        training(config)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("image_size", 0), ("batch_size", 0), ("start_step", -1), ("magnitude", -1.0), ("host_index", 1)],
)
def test_arguments_out_of_range_are_refused(digits, argument, value):
    config = dataclasses.replace(digits, augmentation="randaugment")
    with pytest.raises(ValueError, match=argument):
        training(config, **{argument: value})


@pytest.fixture(scope="module")
def first_batch(digits_dir):
    """Returns the function `(augmentation, **changes) → first batch`, which makes each batch once."""

    @functools.cache
    def make(augmentation: str, **changes):
        config = DataConfig(data_dir=digits_dir, preprocessing="finetune", augmentation=augmentation, threads=2)
        return next(training(dataclasses.replace(config, **changes), magnitude=12.0, batch_size=30))

    return make


@pytest.mark.parametrize(
    ("augmentation", "change"),
    [
        ("none", {"preprocessing": "v2"}),
        ("none", {"min_crop_area": 0.5}),
        ("none", {"flip": False}),
        ("none", {"cutout": True}),
        ("randaugment", {"layers": 1}),
        ("randaugment", {"size_relative": True}),
        ("randaugment", {"operations": "corrected"}),
    ],
)
def test_every_training_option_changes_the_images_and_not_their_order(first_batch, augmentation, change):
    plain, changed = first_batch(augmentation), first_batch(augmentation, **change)
    np.testing.assert_array_equal(plain["label"], changed["label"])
    assert not np.array_equal(plain["image"], changed["image"])


def test_each_augmentation_gives_other_images(first_batch):
    images = [first_batch(name)["image"] for name in ("none", "randaugment", "autoaugment")]
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(images, 2))


def test_the_evaluation_crop_can_be_chosen(digits):
    config = dataclasses.replace(digits, preprocessing="v2")
    by_rule, centre, whole = (
        next(eval_batches(dataclasses.replace(config, eval_crop=rule), image_size=SIZE, batch_size=4))["image"]
        for rule in ("", "centre", "whole")
    )
    np.testing.assert_array_equal(by_rule, centre)
    assert not np.array_equal(centre, whole)
