"""One walk over a data set: what is in it, what is broken, and which images training and evaluation share."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from effnetv2_jax.data import preprocess
from effnetv2_jax.data.broken import guard, why_broken
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.pipeline import open_source, thread_count
from effnetv2_jax.data.sources.source import Source, labels_fit
from effnetv2_jax.data.stream import stream_options

_BATCH = 64


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """What one split holds.

    Attributes:
      examples: how many.
      class_counts: images of each class, in the order of the labels.
      smallest: height and width of the image with the fewest pixels; (0, 0) if none can be decoded.
      largest: the same of the one with the most.
      mean_bytes: of an encoded image that is not broken.
      broken: name → reason, of images that cannot be decoded and of labels outside the classes.
      duplicates: examples whose bytes another example of the split has too, the first of each not counted.
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
    """What a data set holds.

    Attributes:
      class_names: in the order of the labels.
      train: the training split.
      evaluation: the evaluation split.
      shared: names of a training and an evaluation example with the same bytes, for each evaluation example that has
        such a twin.
    """

    class_names: tuple[str, ...]
    train: SplitReport
    evaluation: SplitReport
    shared: tuple[tuple[str, str], ...]

    @property
    def sound(self) -> bool:
        """Nothing is broken, no class is empty and nothing is shared."""
        return not (self.train.broken or self.evaluation.broken or self.shared or 0 in self.train.class_counts)


def check_dataset(config: DataConfig, progress: Callable[[int, int], None] = lambda done, total: None) -> DataReport:
    """Decodes every image of both splits once.

    Args:
      config: which data; how it is augmented does not matter.
      progress: called now and then with the number of examples seen and of all.

    Raises:
      ValueError: the configuration is wrong or the data malformed.
      FileNotFoundError: the data is not there.
    """
    sources = [open_source(config, evaluation=side) for side in (False, True)]
    total = sum(source.num_examples for source in sources)
    walks = []
    done = 0
    for source in sources:
        walks.append(_walk(source, thread_count(config), functools.partial(_report_progress, progress, done, total)))
        done += source.num_examples
    train, evaluation = walks
    twins = dict(zip(train.contents, train.intact, strict=True))
    shared = tuple(
        (twins[content], name)
        for content, name in zip(evaluation.contents, evaluation.intact, strict=True)
        if content in twins
    )
    return DataReport(sources[0].class_names, train.report, evaluation.report, shared)


def _report_progress(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


@dataclasses.dataclass(frozen=True)
class _Walk:
    report: SplitReport
    intact: list[str]  # names
    contents: list[int]  # a hash of the bytes of each


def _walk(source: Source, threads: int, progress: Callable[[int], None]) -> _Walk:
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
    return _Walk(report, intact, contents)


def _outside(source: Source) -> str:
    return f"has a label outside 0..{len(source.class_names) - 1}"


def _observations(source: Source, threads: int) -> Iterator[dict[str, Any]]:
    """Batches of what there is to know of each entry; `classes` counts each of its classes."""
    classes = len(source.class_names)

    @tf.autograph.experimental.do_not_convert
    def observe(entry: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        def look() -> dict[str, tf.Tensor]:
            data = source.load(entry["image"])
            return {
                "shape": tf.ensure_shape(tf.shape(preprocess.decode(data))[:2], [2]),
                "bytes": tf.strings.length(data),
                "content": tf.strings.to_hash_bucket_strong(data, np.iinfo(np.int64).max, [1, 2]),
                "good": tf.constant(True),
                "entry": tf.constant(""),
            }

        unseen = {
            "shape": tf.zeros([2], tf.int32),
            "bytes": tf.constant(0),
            "content": tf.constant(0, tf.int64),
            "good": tf.constant(False),
            "entry": entry["image"],
        }
        fits = labels_fit(entry["label"], classes)
        labels = tf.reshape(tf.cast(entry["label"], tf.int32), [-1])
        seen = tf.cond(fits, lambda: guard(look, unseen), lambda: unseen)
        return seen | {
            "id": entry["id"],
            "fits": fits,
            "classes": tf.math.bincount(tf.where(fits, labels, 0), minlength=classes, maxlength=classes),
        }

    observed = source.read(None).map(observe, num_parallel_calls=threads, deterministic=True)
    return observed.batch(_BATCH).with_options(stream_options(threads)).as_numpy_iterator()
