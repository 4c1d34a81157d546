"""The data set that a configuration names: from TFDS, from recorded sizes, or missing."""

import itertools

import pytest
import tensorflow_datasets as tfds

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.dataset import dataset_info, recorded_info
from effnetv2_jax.data.pipeline import eval_batches, train_batches
from effnetv2_jax.data.sources.datasets import DATASETS

SIZE = 16


@pytest.mark.parametrize(
    "name",
    [
        "imagenet2012",
        "oxford_flowers102",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cifar10", "cifar100", "cars196", "tf_flowers")),
    ],
)
def test_data_sets_of_tfds_give_batches(name, tmp_path):
    config = DataConfig(dataset=name, data_dir=str(tmp_path), augmentation="none", threads=2)
    with tfds.testing.mock_data(num_examples=10):
        info = dataset_info(config)
        batches = train_batches(config, image_size=SIZE, magnitude=5.0, batch_size=25, start_step=0, seed=1)
        batch = next(itertools.islice(batches, 1))
        evaluated = list(eval_batches(config, image_size=SIZE, batch_size=4))
    assert info.num_classes == len(info.class_names) == DATASETS[name].num_classes
    assert batch["image"].shape == (25, SIZE, SIZE, 3)
    assert batch["image"].std() > 10  # noise, not black
    assert ((batch["label"] >= 0) & (batch["label"] < info.num_classes)).all()
    assert sum(batch["mask"].sum() for batch in evaluated) == 10


def test_a_data_set_that_must_be_downloaded_by_hand_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="imagenet2012: not found in"):
        dataset_info(DataConfig(dataset="imagenet2012", data_dir=str(tmp_path)))


@pytest.mark.parametrize("splits", [{}, {"train_split": "train[:50%]", "eval_split": "train[75%:]"}])
def test_recorded_info_equals_the_info_of_the_opened_data_set(digits_dir, splits):
    config = DataConfig(data_dir=digits_dir, **splits)
    recorded, opened = recorded_info(config), dataset_info(config)
    assert recorded is not None
    for field in ("num_classes", "train_examples", "eval_examples", "class_names", "multi_hot"):
        assert getattr(recorded, field) == getattr(opened, field)


def test_a_folder_has_no_recorded_info():
    assert recorded_info(DataConfig(dataset="folder", data_dir="nowhere")) is None
