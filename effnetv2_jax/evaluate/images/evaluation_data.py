"""Data to evaluate on: a config's, a benchmark's, or a folder of the user's."""

from __future__ import annotations

import dataclasses
import functools
import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING

from effnetv2_jax.data.config import DataConfig, check_config
from effnetv2_jax.data.dataset import open_source
from effnetv2_jax.data.sources.datasets import DATASETS, FOLDER
from effnetv2_jax.evaluate.images.benchmarks import BENCHMARKS, Benchmark, imagenet_ids
from effnetv2_jax.evaluate.images.label_file import labels_of, read_labels
from effnetv2_jax.paths import absolute, in_bucket

if TYPE_CHECKING:
    from effnetv2_jax.data.sources.source import Source


@dataclasses.dataclass(frozen=True)
class EvaluationData:
    """Images to evaluate on.

    Attributes:
      name: what results call them.
      class_names: one name for each class, in the order of the labels.
      examples: number of images, over all hosts.
      open: (index of a host, number of hosts) → the host's share.
      config: how images become batches.
      multi_hot: whether labels are sets of classes, each of which is right.
      unlabelled: whether images may lack a label; they are not counted.
      among: names of the classes that a network chooses from; () for all of its own.
    """

    name: str
    class_names: tuple[str, ...]
    examples: int
    open: Callable[[int, int], Source]
    config: DataConfig
    multi_hot: bool = False
    unlabelled: bool = False
    among: tuple[str, ...] = ()


def configured_data(config: DataConfig, name: str = "") -> EvaluationData:
    """Returns the evaluation split of a configuration.

    Raises:
      ValueError: if a field of the configuration is wrong, or the data is malformed.
      FileNotFoundError: if the data does not exist.
    """

    def opened(host_index: int, host_count: int) -> Source:
        return open_source(config, evaluation=True, host_index=host_index, host_count=host_count)

    whole = opened(0, 1)
    return EvaluationData(
        name or config.dataset, whole.class_names, whole.num_examples, opened, config, whole.multi_hot
    )


def named_data(text: str, data_dir: str = "", labels: str = "") -> EvaluationData:
    """Returns the data that a user names.

    Args:
      text: the name of a benchmark or another data set; the path of a folder, `<class>/<image>`; or NAME=FOLDER for a
        benchmark whose images lie in a folder.
      data_dir: the folder of TFDS or of the record files; "" for its default.
      labels: a file of labels for the images of a folder, see `read_labels`; "" if the folder has a folder for each
        class.

    Raises:
      ValueError: if there is no such data set or folder, or the data is malformed.
      OSError: if the data does not exist or cannot be read.
    """
    name, separator, place = text.partition("=")
    if not separator or absolute(text).is_dir():
        name, place = (text, "") if text in BENCHMARKS or text in DATASETS else ("", text)
    benchmark = BENCHMARKS.get(name)
    if place:
        if name and benchmark is None:
            raise ValueError(f"unknown benchmark {name!r}; allowed before = are {', '.join(BENCHMARKS)}")
        if not in_bucket(place) and not absolute(place).is_dir():
            known = ", ".join(dict.fromkeys([*BENCHMARKS, *DATASETS]))
            raise FileNotFoundError(f"{place!r} is neither a folder nor a known data set; these are {known}")
        return _in_folder(text, str(absolute(place)), labels, benchmark)
    if labels:
        raise ValueError(f"a file of labels is for the images of a folder, as in {name}=FOLDER")
    if name == FOLDER:
        raise ValueError(f"name the folder itself in place of {FOLDER!r}")
    config = DataConfig(dataset=name, data_dir=data_dir, augmentation="none")
    if benchmark is None or benchmark.dataset.train:
        return configured_data(config)
    return _of_benchmark(benchmark, config)


def _of_benchmark(benchmark: Benchmark, config: DataConfig) -> EvaluationData:
    from effnetv2_jax.data.sources.tfds_source import open_tfds

    check_config(config)
    spec = benchmark.dataset

    def opened(host_index: int, host_count: int) -> Source:
        return open_tfds(spec, spec.evaluation, config.data_dir, host_index, host_count)

    whole = opened(0, 1)
    return EvaluationData(
        benchmark.name,
        whole.class_names,
        whole.num_examples,
        opened,
        config,
        spec.multi_hot,
        benchmark.unlabelled,
        _among(benchmark),
    )


def _among(benchmark: Benchmark | None) -> tuple[str, ...]:
    if benchmark is None or not benchmark.classes:
        return ()
    ids = imagenet_ids()
    return tuple(ids[index] for index in benchmark.classes)


def _in_folder(name: str, folder: str, labels: str, benchmark: Benchmark | None) -> EvaluationData:
    """Returns the images of a folder. Its class folders give the labels, or a file of labels."""
    from effnetv2_jax.data.sources.folder import list_evaluation_folder, open_folder
    from effnetv2_jax.data.sources.labelled_files import list_images, open_labelled_files

    shown = benchmark.name if benchmark else posixpath.basename(folder)
    config = DataConfig(dataset=FOLDER, data_dir=folder, augmentation="none")
    if not labels:
        if benchmark and benchmark.unlabelled:
            raise ValueError(f"{name} needs a file of labels, which is real.json of reassessed-imagenet")
        listed = list_evaluation_folder(folder)
        opener = functools.partial(open_folder, listed, evaluation=True)
        data = EvaluationData(shown, listed.class_names, len(listed.evaluation), opener, config)
    else:
        found = labels_of(list_images(folder), read_labels(labels))
        classes = _class_names(sorted({label for row in found.values() for label in row}))
        index_of = {label: index for index, label in enumerate(classes)}
        numbered = {path: tuple(index_of[label] for label in row) for path, row in found.items()}
        opener = functools.partial(open_labelled_files, folder, numbered, classes)
        data = EvaluationData(shown, classes, len(numbered), opener, config, multi_hot=True, unlabelled=True)
    return dataclasses.replace(data, among=_among(benchmark))


def _class_names(labels: list[str]) -> tuple[str, ...]:
    """Returns the names of classes, of which numbers are in their order."""
    if not labels:
        raise ValueError("the file of labels has no labels")
    return tuple(sorted(labels, key=int) if all(label.isdecimal() for label in labels) else labels)
