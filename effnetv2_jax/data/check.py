"""One walk over a data set: what is in it, what is broken, and which images training and evaluation share."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from effnetv2_jax.data import preprocess
from effnetv2_jax.data.broken import guard, why_broken
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.pipeline import open_source, thread_count
from effnetv2_jax.data.source import Source


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """What one split holds.

    Attributes:
      examples: how many.
      class_counts: images of each class, in the order of the labels.
      smallest: height and width of the image with the fewest pixels; (0, 0) if none can be decoded.
      largest: the same of the one with the most.
      mean_bytes: of an encoded image.
      broken: name → reason.
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
    train, evaluation = (
        _walk(source, thread_count(config), lambda done, before=before: progress(before + done, total))
        for source, before in zip(sources, (0, sources[0].num_examples), strict=True)
    )
    twins = dict(zip(train.contents.tolist(), train.names, strict=True))
    shared = tuple(
        (twins[content], name)
        for content, name in zip(evaluation.contents.tolist(), evaluation.names, strict=True)
        if content in twins
    )
    return DataReport(sources[0].class_names, train.report, evaluation.report, shared)


@dataclasses.dataclass(frozen=True)
class _Walk:
    report: SplitReport
    names: list[str]
    contents: np.ndarray


def _walk(source: Source, threads: int, progress: Callable[[int], None]) -> _Walk:
    names: list[str] = []
    contents: list[np.ndarray] = []
    shapes: list[np.ndarray] = []
    broken: dict[str, str] = {}
    counts = np.zeros(len(source.class_names), np.int64)
    size = 0
    for batch in _observations(source, threads):
        names += [name.decode() for name in batch["id"]]
        contents.append(batch["content"])
        shapes.append(batch["shape"][batch["good"]])
        size += int(batch["bytes"].sum())
        counts += np.bincount(batch["labels"].flat_values, minlength=len(counts))
        for name, entry in zip(batch["id"][~batch["good"]], batch["entry"][~batch["good"]], strict=True):
            broken[name.decode()] = why_broken(entry, source.load)
        progress(len(names))
    hashes, sizes = np.concatenate(contents), np.concatenate(shapes)
    by_pixels = sizes[np.argsort(sizes.prod(axis=1), kind="stable")] if len(sizes) else np.zeros((1, 2), np.int32)
    report = SplitReport(
        examples=len(names),
        class_counts=tuple(counts.tolist()),
        smallest=(int(by_pixels[0][0]), int(by_pixels[0][1])),
        largest=(int(by_pixels[-1][0]), int(by_pixels[-1][1])),
        mean_bytes=size / len(names),
        broken=broken,
        duplicates=len(hashes) - len(np.unique(hashes)),
    )
    return _Walk(report, names, hashes)


def _observations(source: Source, threads: int) -> Iterator[dict[str, np.ndarray]]:
    @tf.autograph.experimental.do_not_convert
    def observe(entry: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image, good = guard(
            lambda image, seed: preprocess.decode(source.load(image)), entry["image"], tf.zeros([2], tf.int64)
        )
        data, _ = guard_bytes(source, entry["image"])
        return {
            "id": entry["id"],
            "good": good,
            "entry": tf.cond(good, lambda: "", lambda: entry["image"]),
            "shape": tf.shape(image)[:2],
            "bytes": tf.strings.length(data),
            "content": tf.strings.to_hash_bucket_strong(data, np.iinfo(np.int64).max, [1, 2]),
            "labels": tf.RaggedTensor.from_row_lengths(tf.reshape(entry["label"], [-1]), [tf.size(entry["label"])]),
        }

    raise NotImplementedError(observe, threads)
