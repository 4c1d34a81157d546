"""What an evaluation found out about each image."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils


@dataclasses.dataclass(frozen=True)
class ImageResults:
    """Results for N images. Classes are numbered as in a `ClassMap`.

    Attributes:
      names: the names of the images, bytes `[N]`.
      labels: the classes of each image, int32 `[N, L]`, ascending and filled with -1; only -1 if it has none.
      best: its most probable classes in descending order, int32 `[N, 5]`, or fewer.
      best_probability: their probabilities, float32 `[N, 5]`.
      probability: the sum of the probabilities of the image's own classes, float32 `[N]`.
      loss: its loss, float32 `[N]`.
    """

    names: np.ndarray
    labels: np.ndarray
    best: np.ndarray
    best_probability: np.ndarray
    probability: np.ndarray
    loss: np.ndarray

    @functools.cached_property
    def labelled(self) -> np.ndarray:
        """Whether each image has a label, bool `[N]`."""
        return np.asarray((self.labels >= 0).any(-1))

    @functools.cached_property
    def hits(self) -> np.ndarray:
        """Whether each of `best` is a class of the image, bool `[N, 5]`."""
        return (self.best[:, :, None] == self.labels[:, None, :]).any(-1)

    @property
    def right(self) -> np.ndarray:
        """Whether the most probable class is a class of the image, bool `[N]`."""
        return self.hits[:, 0]

    def only(self, rows: np.ndarray) -> ImageResults:
        """Returns the results of some images: `rows` are a mask or indices."""
        fields = {field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)}
        return ImageResults(**fields)

    def counted(self) -> ImageResults:
        """Returns the results of the images that have a label."""
        return self.only(self.labelled)


def joined(parts: Sequence[ImageResults]) -> ImageResults:
    """Returns the results of all parts."""
    widest = max(part.labels.shape[1] for part in parts)
    fields = {
        field.name: np.concatenate(
            [_filled(part.labels, widest) if field.name == "labels" else getattr(part, field.name) for part in parts]
        )
        for field in dataclasses.fields(ImageResults)
    }
    return ImageResults(**fields)


def gathered(results: ImageResults) -> ImageResults:
    """Returns the results of all processes, sorted by the images' names. Every process must call this."""
    parts = [results] if jax.process_count() == 1 else [_unpacked(data) for data in _all_bytes(_packed(results))]
    whole = joined(parts)
    return whole.only(np.argsort(whole.names, kind="stable"))


def _filled(labels: np.ndarray, columns: int) -> np.ndarray:
    return np.pad(labels, ((0, 0), (0, columns - labels.shape[1])), constant_values=-1)


def _packed(results: ImageResults) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{field.name: getattr(results, field.name) for field in dataclasses.fields(results)})
    return buffer.getvalue()


def _unpacked(data: bytes) -> ImageResults:
    with np.load(io.BytesIO(data)) as arrays:
        return ImageResults(**arrays)


def _all_bytes(data: bytes) -> list[bytes]:
    """Returns the bytes that each process passes."""
    lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(data))))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]
