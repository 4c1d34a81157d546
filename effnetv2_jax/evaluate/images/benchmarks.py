"""The table of benchmarks: data sets that judge networks trained on ImageNet-1k."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from effnetv2_jax.data.sources.datasets import DATASETS, DatasetSpec
from effnetv2_jax.evaluate.images.class_subsets import IMAGENET_A, IMAGENET_R


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A data set whose labels are those of ImageNet-1k.

    Attributes:
      dataset: the data set of TFDS. Its split `train` is "", because it is only for evaluation.
      classes: indices of the classes that a network chooses from; () for all 1,000.
      unlabelled: whether images without a label occur, which are not counted. An image of such a data set may have
        several labels, each of which is right.
    """

    dataset: DatasetSpec
    classes: tuple[int, ...] = ()
    unlabelled: bool = False

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.dataset.name


def _test_set(name: str, examples: int, tfds_name: str = "") -> DatasetSpec:
    return DatasetSpec(name, "tfds", "", "test", 1000, {"test": examples}, tfds_name=tfds_name or name)


# Source of the sizes: the TFDS catalogue and https://github.com/HaohanWang/ImageNet-Sketch.
_REAL = DatasetSpec(
    "imagenet2012_real",
    "tfds",
    "",
    "validation",
    1000,
    {"validation": 50_000},
    tfds_name="imagenet2012_real",
    multi_hot=True,
    label_feature="real_label",
)
_ROWS = (
    Benchmark(DATASETS["imagenet2012"]),
    Benchmark(_REAL, unlabelled=True),
    Benchmark(_test_set("imagenet_v2", 10_000, "imagenet_v2/matched-frequency")),
    Benchmark(_test_set("imagenet_a", 7_500), IMAGENET_A),
    Benchmark(_test_set("imagenet_r", 30_000), IMAGENET_R),
    Benchmark(_test_set("imagenet_sketch", 50_889)),
)

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({row.name: row for row in _ROWS})
"""Name → benchmark, in the order of timm's table of results."""


def imagenet_ids() -> tuple[str, ...]:
    """Returns the WordNet ids of ImageNet-1k's classes, in the order of the labels, as TFDS lists them."""
    import tensorflow_datasets as tfds

    return tuple(tfds.builder_cls("imagenet2012")(data_dir=None).info.features["label"].names)
