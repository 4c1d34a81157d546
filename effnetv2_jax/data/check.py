"""A check of a data set: its contents, its broken images, and the images that training and evaluation share."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from effnetv2_jax.data.broken import guard, why_broken
from effnetv2_jax.data.config import DataConfig, thread_count
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.dataset import open_source
from effnetv2_jax.data.images.decoding import decode
from effnetv2_jax.data.sources.source import Source, labels_fit
from effnetv2_jax.data.stream import stream_options

_BATCH = 64


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """The contents of one split.

    Attributes:
      examples: number of examples.
      class_counts: number of labels of each class, in the order of the labels. Broken images count too, but a label
        outside the classes does not.
      smallest: height and width of the image with the fewest pixels; (0, 0) if none can be decoded.
      largest: height and width of the image with the most pixels.
      mean_bytes: mean size of an encoded image, without broken ones.
      broken: name → reason, for each image that cannot be decoded and each label outside the classes.
      duplicates: number of examples that can be decoded and have the same bytes as an earlier one of the split.
    """

    examples: int
    class_counts: tuple[int, ...]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    mean_bytes: float
    broken: Mapping[str, str]
    duplicates: int


@dataclasses.dataclass(frozen=True)
class DataReport:
    """The contents of a data set.

    Attributes:
      class_names: one name for each class, in the order of the labels.
      train: the training split.
      evaluation: the evaluation split.
      shared: (training name, evaluation name) for each evaluation example with the same bytes as a training example.
    """

    class_names: tuple[str, ...]
    train: SplitReport
    evaluation: SplitReport
    shared: tuple[tuple[str, str], ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is broken, every class has training images, and the splits share no image."""
        return not (self.train.broken or self.evaluation.broken or self.shared or 0 in self.train.class_counts)


def _no_progress(_done: int, _total: int) -> None:
    pass


def check_dataset(config: DataConfig, progress: Callable[[int, int], None] = _no_progress) -> DataReport:
    """Decodes every image of both splits and returns what was found.

    Args:
      config: which data; its augmentation does not matter.
      progress: called after each batch with the number of examples checked so far and the total number.

    Raises:
      ValueError: if the configuration is wrong or the data is malformed.
      FileNotFoundError: if the data does not exist.
    """
    sources = [open_source(config, evaluation=side) for side in (False, True)]
    total = sum(source.num_examples for source in sources)
    train = _check_split(sources[0], thread_count(config), lambda done: progress(done, total))
    before = sources[0].num_examples
    evaluation = _check_split(sources[1], thread_count(config), lambda done: progress(before + done, total))
    training_names = dict(zip(train.contents, train.intact, strict=True))
    shared = tuple(
        (training_names[content], name)
        for content, name in zip(evaluation.contents, evaluation.intact, strict=True)
        if content in training_names
    )
    return DataReport(sources[0].class_names, train.report, evaluation.report, shared)


@dataclasses.dataclass(frozen=True)
class _CheckedSplit:
    report: SplitReport
    intact: list[str]  # names of the images that are not broken
    contents: list[int]  # a hash of the bytes of each of them


def _check_split(source: Source, threads: int, progress: Callable[[int], None]) -> _CheckedSplit:
    intact: list[str] = []
    contents: list[int] = []
    sizes: list[tuple[int, int]] = []
    broken: dict[str, str] = {}
    counts = np.zeros(len(source.class_names), np.int64)
    encoded = 0
    for batch in _observations(source, threads):
        good = batch["good"]
        intact += [name.decode() for name in batch["id"][good]]
        contents += batch["content"][good].tolist()
        sizes += map(tuple, batch["shape"][good].tolist())
        encoded += int(batch["bytes"].sum())
        counts += batch["classes"].sum(axis=0)
        for name, entry, fits in zip(*(batch[key][~good] for key in ("id", "entry", "fits")), strict=True):
            broken[name.decode()] = why_broken(entry, source.load) if fits else _outside(source)
        progress(len(intact) + len(broken))
    sizes.sort(key=math.prod)
    report = SplitReport(
        examples=len(intact) + len(broken),
        class_counts=tuple(counts.tolist()),
        smallest=sizes[0] if sizes else (0, 0),
        largest=sizes[-1] if sizes else (0, 0),
        mean_bytes=encoded / max(len(intact), 1),
        broken=broken,
        duplicates=len(contents) - len(set(contents)),
    )
    return _CheckedSplit(report, intact, contents)


def _outside(source: Source) -> str:
    return f"has a label outside 0..{len(source.class_names) - 1}"


def _observations(source: Source, threads: int) -> Iterator[dict[str, Any]]:
    """Returns an iterator over batches with these findings for each entry.

    `fits` tells whether the labels are within the classes; `classes` counts them by class. `good` tells whether the
    image can be decoded as well. If so, `shape`, `bytes` and `content` (a hash) describe it; otherwise `entry` holds
    the entry's `image`.
    """
    classes = len(source.class_names)

    @tf.autograph.experimental.do_not_convert
    def observe(entry: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        def decoded() -> dict[str, tf.Tensor]:
            data = source.load(entry["image"])
            return {
                "shape": tf.ensure_shape(tf.shape(decode(data))[:2], [2]),
                "bytes": tf.strings.length(data),
                "content": tf.strings.to_hash_bucket_strong(data, np.iinfo(np.int64).max, [1, 2]),
                "good": tf.constant(True),
                "entry": tf.constant(""),
            }

        broken = {
            "shape": tf.zeros([2], tf.int32),
            "bytes": tf.constant(0),
            "content": tf.constant(0, tf.int64),
            "good": tf.constant(False),
            "entry": entry["image"],
        }
        fits = labels_fit(entry["label"], classes)
        labels = tf.reshape(tf.cast(entry["label"], tf.int32), [-1])
        observed = tf.cond(fits, lambda: guard(decoded, broken), lambda: broken)
        counts = tf.math.bincount(tf.where(fits, labels, 0), minlength=classes, maxlength=classes)
        return observed | {
            "id": entry["id"],
            "fits": fits,
            "classes": tf.where(fits, counts, 0),
        }

    observations = source.read(None).map(observe, num_parallel_calls=threads, deterministic=True)
    return observations.batch(_BATCH).with_options(stream_options(threads)).as_numpy_iterator()
