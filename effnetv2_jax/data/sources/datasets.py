"""The table of data sets: their splits, classes and sizes, and how they are stored. Only `ranges` imports TFDS."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

FOLDER = "folder"


@dataclasses.dataclass(frozen=True)
class ShardFiles:
    """The record files of one split: the slice `start:stop` of the sorted files that match `pattern`."""

    pattern: str
    start: int | None = None
    stop: int | None = None


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    Attributes:
      name: the key in `DATASETS`.
      kind: "tfds" for a data set of TensorFlow Datasets, "tfrecords" for record files as the official EfficientNetV2
        code reads them, "folder" for a folder of images.
      train: the default training split, in TFDS's notation.
      evaluation: the default evaluation split, which shares no example with `train`.
      num_classes: number of classes; 0 for folders, where it depends on the data.
      split_sizes: number of examples in each stored split; empty for folders.
      aliases: further names for splits, each with the split in TFDS's notation.
      tfds_name: the TFDS builder, which also has the class names; "" if there is none.
      shards: the files of each stored split of "tfrecords".
      multi_hot: whether labels are float32 `[num_classes]`, 1 for every class of the image, instead of one int32.
    """

    name: str
    kind: Literal["tfds", "tfrecords", "folder"]
    train: str
    evaluation: str
    num_classes: int = 0
    split_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tfds_name: str = ""
    shards: Mapping[str, ShardFiles] = dataclasses.field(default_factory=dict)
    multi_hot: bool = False


_ROWS = (
    # Source: scikit-learn's load_digits (UCI optical recognition of handwritten digits); split rule in digits.py.
    DatasetSpec("digits", "tfds", "train", "test", 10, {"train": 1437, "test": 360}, tfds_name="digits"),
    # Source of the sizes that follow: the TFDS catalogue and google/automl efficientnetv2/datasets.py.
    DatasetSpec("cifar10", "tfds", "train", "test", 10, {"train": 50_000, "test": 10_000}, tfds_name="cifar10"),
    DatasetSpec("cifar100", "tfds", "train", "test", 100, {"train": 50_000, "test": 10_000}, tfds_name="cifar100"),
    DatasetSpec(
        "oxford_flowers102",
        "tfds",
        "train+validation",
        "test",
        102,
        {"train": 1020, "validation": 1020, "test": 6149},
        tfds_name="oxford_flowers102",
    ),
    DatasetSpec("cars196", "tfds", "train", "test", 196, {"train": 8144, "test": 8041}, tfds_name="cars196"),
    # Deviation: the official evaluation split, train[30%:], contains four sevenths of the training split train[:70%].
    DatasetSpec("tf_flowers", "tfds", "train[:70%]", "train[70%:]", 5, {"train": 3670}, tfds_name="tf_flowers"),
    # Deviation: the official TFDS minival is train[2%:], nearly the whole training split; here it is train[98%:].
    DatasetSpec(
        "imagenet2012",
        "tfds",
        "train[:98%]",
        "validation",
        1000,
        {"train": 1_281_167, "validation": 50_000},
        aliases={"minival": "train[98%:]", "trainval": "train"},
        tfds_name="imagenet2012",
    ),
    DatasetSpec(
        "imagenet2012_tfrecords",
        "tfrecords",
        "train",
        "validation",
        1000,
        {"train": 1_256_144, "minival": 25_021, "validation": 50_000},
        aliases={"trainval": "minival+train"},
        tfds_name="imagenet2012",
        shards={
            "minival": ShardFiles("train*", 0, 20),
            "train": ShardFiles("train*", 20, None),
            "validation": ShardFiles("val*"),
        },
    ),
    DatasetSpec(
        "imagenet21k",
        "tfrecords",
        "train",
        "validation",
        21_843,
        {"train": 12_720_275, "minival": 25_089, "validation": 100_357},
        aliases={"trainval": "minival+train"},
        shards={
            "validation": ShardFiles("imagenet21k*", 0, 16),
            "minival": ShardFiles("imagenet21k*", 16, 20),
            "train": ShardFiles("imagenet21k*", 20, None),
        },
        multi_hot=True,
    ),
    DatasetSpec(FOLDER, "folder", "train", "val"),
)

DATASETS: Mapping[str, DatasetSpec] = MappingProxyType({row.name: row for row in _ROWS})


def dataset_spec(name: str) -> DatasetSpec:
    """Returns the data set called `name`.

    Raises:
      ValueError: if there is no such data set; the message lists the allowed names.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; allowed: {', '.join(DATASETS)}")
    return DATASETS[name]


def resolve_splits(spec: DatasetSpec, train: str = "", evaluation: str = "") -> tuple[str, str]:
    """Returns the training and the evaluation split of `spec` in TFDS's notation.

    Args:
      spec: the data set.
      train: the training split: an alias, a TFDS split expression such as "train[:90%]", or "" for the default.
      evaluation: the evaluation split, written in the same way.

    Raises:
      ValueError: if a split is unknown or malformed, or the two share an example.
    """
    train = spec.aliases.get(train, train) or spec.train
    evaluation = spec.aliases.get(evaluation, evaluation) or spec.evaluation
    if spec.split_sizes:
        shared = _shared_examples(*(ranges(spec, split, spec.split_sizes) for split in (train, evaluation)))
        if shared:
            raise ValueError(
                f"{spec.name}: training split {train!r} and evaluation split {evaluation!r} share {shared} examples"
            )
    elif train == evaluation:
        raise ValueError(f"{spec.name}: {train!r} cannot be both the training and the evaluation split")
    return train, evaluation


def ranges(spec: DatasetSpec, split: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Returns the ranges of examples that a split expression covers.

    Args:
      spec: the data set.
      split: the split in TFDS's notation.
      sizes: number of examples in each stored split.

    Returns:
      Tuples (stored split, first example, end).

    Raises:
      ValueError: if a stored split is unknown or the expression is malformed.
    """
    import tensorflow_datasets as tfds

    stored = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0, filename_template=None)
        for name, size in sizes.items()
    }
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(stored)
    except (AssertionError, KeyError, ValueError) as error:
        allowed = ", ".join([*spec.aliases, *sizes])
        raise ValueError(
            f"{spec.name}: unknown split {split!r}; allowed: {allowed}, or parts such as train[:90%]"
        ) from error
    return [(part.splitname, part.from_ or 0, sizes[part.splitname] if part.to is None else part.to) for part in parts]


def _shared_examples(left: list[tuple[str, int, int]], right: list[tuple[str, int, int]]) -> int:
    return sum(
        max(0, min(left_end, right_end) - max(left_start, right_start))
        for left_name, left_start, left_end in left
        for right_name, right_start, right_end in right
        if left_name == right_name
    )
