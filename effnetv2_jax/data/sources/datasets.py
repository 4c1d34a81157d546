"""The table of data sets: their splits, classes, sizes and storage.

This module imports TFDS only for unusual splits, so that the core can plan runs without it.
"""

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from effnetv2_jax.similar_names import did_you_mean

FOLDER = "folder"
CONVERTED = "converted"


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
        code reads them, "parquet" and "webdataset" for shards in these formats, "converted" for what
        `effnetv2 data convert` writes, "folder" for a folder of images.
      train: the default training split, in TFDS's notation.
      evaluation: the default evaluation split, which shares no example with `train`.
      num_classes: number of classes; 0 where it depends on the data.
      split_sizes: number of examples in each stored split; empty where they depend on the data.
      aliases: further name of a split → the split in TFDS's notation.
      tfds_name: name of the TFDS builder, which also has the class names; "" if there is none.
      shards: the files of each stored split of "tfrecords".
      multi_hot: whether labels are float32 `[num_classes]`, 1 for every class of the image, instead of one int32.
      label_feature: name of the TFDS feature with the label or the labels.
    """

    name: str
    kind: Literal["tfds", "tfrecords", "parquet", "webdataset", "converted", "folder"]
    train: str
    evaluation: str
    num_classes: int = 0
    split_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tfds_name: str = ""
    shards: Mapping[str, ShardFiles] = dataclasses.field(default_factory=dict)
    multi_hot: bool = False
    label_feature: str = "label"


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
    DatasetSpec("parquet", "parquet", "train", "validation"),
    DatasetSpec("webdataset", "webdataset", "train", "validation"),
    DatasetSpec(CONVERTED, "converted", "train", "validation"),
    DatasetSpec(FOLDER, "folder", "train", "val"),
)

DATASETS: Mapping[str, DatasetSpec] = MappingProxyType({row.name: row for row in _ROWS})


def dataset_spec(name: str) -> DatasetSpec:
    """Returns the data set called `name`.

    Raises:
      ValueError: if there is no such data set; the message lists the allowed names.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}{did_you_mean(name, DATASETS)} (allowed: {', '.join(DATASETS)})")
    return DATASETS[name]


def resolve_splits(spec: DatasetSpec, train: str = "", evaluation: str = "") -> tuple[str, str]:
    """Returns the training and the evaluation split of `spec` in TFDS's notation.

    Args:
      spec: the data set.
      train: the training split: an alias, a TFDS split expression such as "train[:90%]", or "" for the default.
      evaluation: the evaluation split, written in the same way.

    Raises:
      ValueError: if a split is unknown, malformed or empty, or the two share an example.
    """
    train = spec.aliases.get(train, train) or spec.train
    evaluation = spec.aliases.get(evaluation, evaluation) or spec.evaluation
    if spec.split_sizes:
        covered = [ranges(spec, split, spec.split_sizes) for split in (train, evaluation)]
        for kind, split, parts in zip(("training", "evaluation"), (train, evaluation), covered, strict=True):
            if not any(end > first for _, first, end in parts):
                raise ValueError(f"{spec.name}: {kind} split {split!r} contains no images")
        shared = _shared_examples(*covered)
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
    parts = [_part(text) for text in re.split(r"\s*\+\s*", split)]
    if None not in parts:
        return [_range(spec, split, part, sizes) for part in parts if part]
    return _unusual_ranges(spec, split, sizes)


# A stored split, whole or from one example or whole per cent to another.
_PART = re.compile(r"(?P<name>[\w-]+)(\[(?P<first>-?\d+%?)?:(?P<end>-?\d+%?)?\])?")


def _part(text: str) -> re.Match[str] | None:
    """Returns the match of `_PART`; None for the rest of TFDS's notation: "all", shards and fractions of a per cent."""
    match = _PART.fullmatch(text)
    if match is None or match["name"] == "all":
        return None
    per_cent = {bound.endswith("%") for bound in match.group("first", "end") if bound}
    return match if len(per_cent) == ("[" in text) else None  # one unit in the brackets


def _range(spec: DatasetSpec, split: str, part: re.Match[str], sizes: Mapping[str, int]) -> tuple[str, int, int]:
    """Returns the range of one part of `split`."""
    size = sizes.get(part["name"])
    if size is None:
        raise ValueError(_unknown_split(spec, split, sizes))

    def example(bound: str | None, default: int) -> int:
        if not bound:
            return default
        per_cent, number = bound.endswith("%"), int(bound.removesuffix("%"))
        if abs(number) > (100 if per_cent else size):
            raise ValueError(_unknown_split(spec, split, sizes))
        number = round(number * size / 100) if per_cent else number  # as TFDS rounds
        return number + size if number < 0 else number

    return part["name"], example(part["first"], 0), example(part["end"], size)


def _unusual_ranges(spec: DatasetSpec, split: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Returns the ranges of an expression that only TFDS parses, such as `train[:1shard]`."""
    import tensorflow_datasets as tfds

    stored = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0, filename_template=None)
        for name, size in sizes.items()
    }
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(stored)
    except (AssertionError, KeyError, NotImplementedError, ValueError) as error:
        raise ValueError(_unknown_split(spec, split, sizes)) from error
    return [(part.splitname, part.from_ or 0, sizes[part.splitname] if part.to is None else part.to) for part in parts]


def _unknown_split(spec: DatasetSpec, split: str, sizes: Mapping[str, int]) -> str:
    allowed = ", ".join([*spec.aliases, *sizes])
    return f"{spec.name}: unknown split {split!r}; allowed: {allowed}, or parts such as train[:90%]"


def _shared_examples(left: list[tuple[str, int, int]], right: list[tuple[str, int, int]]) -> int:
    return sum(
        max(0, min(left_end, right_end) - max(left_start, right_start))
        for left_name, left_start, left_end in left
        for right_name, right_start, right_end in right
        if left_name == right_name
    )
