"""The numbers that sum up the results of images: accuracy, loss, calibration, classes and confusions."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from effnetv2_jax.evaluate.image_results import ImageResults
from effnetv2_jax.evaluate.images.class_map import ClassMap

BINS = 15
"""Number of bins of confidence. Source: Guo et al., On Calibration of Modern Neural Networks, 2017, section 5."""


@dataclasses.dataclass(frozen=True)
class Reliability:
    """How often a network is right, by its confidence: equal bins of the probability of its first class.

    Attributes:
      count: number of images in each bin.
      confidence: mean confidence in each bin, 0..1; 0 in an empty bin.
      accuracy: share of the images in each bin that are right, 0..1; 0 in an empty bin.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error, 0..1: the mean over images of |accuracy − confidence| of their bins."""
        return float(np.sum(self.count * np.abs(self.accuracy - self.confidence)) / max(self.count.sum(), 1))


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """Returns the reliability for the confidence `[N]` and correctness `[N]` of images; a bin holds its upper bound."""
    number = np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(number, minlength=bins)
    sums = (np.bincount(number, weights=values, minlength=bins) for values in (confidence, right))
    confidence, accuracy = (total / np.maximum(count, 1) for total in sums)
    return Reliability(count, confidence, accuracy)


def scores(results: ImageResults) -> dict[str, Any]:
    """Returns `top1`, `top5` and `ece` in per cent, the mean `loss`, the `count` of images, and how many had no label.

    An image with several labels is right if the network names one of them. Images without a label are not counted.

    Raises:
      ValueError: if no image has a label.
    """
    counted = results.counted()
    count = len(counted.names)
    if not count:
        raise ValueError("none of the images has a label")
    return {
        "top1": 100.0 * float(counted.right.mean()),
        "top5": 100.0 * float(counted.hits.any(-1).mean()),
        "loss": float(counted.loss.mean(dtype=np.float64)),
        "ece": 100.0 * reliability(counted.best_probability[:, 0], counted.right).error,
        "count": count,
        "unlabelled": len(results.names) - count,
    }


def class_scores(results: ImageResults, classes: ClassMap, words: Sequence[str]) -> list[dict[str, Any]]:
    """Returns a row for each class that images have or are taken for.

    A row has the class's index among the weights' classes, its name as the data gives it (`id`) and its name in
    `words`; `images` of the class; `top1` and `top5`, the per cent of them that are
    right; `predicted`, the number of images taken for the class, and `precision`, the per cent of them that are right;
    the mean `probability` of the class in its images; and the class that its images are most often taken for, with the
    number of times.
    """
    counted = results.counted()
    predicted = counted.best[:, 0]
    mistaken_for: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for label, prediction, times in confusions(results):
        mistaken_for[label][prediction] = times
    rows = []
    for number in np.union1d(counted.labels[counted.labels >= 0], predicted).tolist():
        of_class, taken = (counted.labels == number).any(-1), predicted == number
        row: dict[str, Any] = {"class": classes.columns[number], "id": classes.names[number], "name": words[number]}
        row |= {
            "images": int(of_class.sum()),
            "top1": _per_cent(counted.right[of_class]),
            "top5": _per_cent(counted.hits[of_class].any(-1)),
            "predicted": int(taken.sum()),
            "precision": _per_cent(counted.right[taken]),
            "probability": float(counted.probability[of_class].mean()) if of_class.any() else None,
        }
        most = mistaken_for[number].most_common(1)
        rows.append(row | {"mistaken_for": words[most[0][0]] if most else "", "times": most[0][1] if most else 0})
    return rows


def confusions(results: ImageResults) -> list[tuple[int, int, int]]:
    """Returns (class of an image, class it is taken for, number of times) for all wrong images, most often first.

    An image with several labels counts for the first of them.
    """
    wrong = results.only(results.labelled & ~results.right)
    first = np.where(wrong.labels >= 0, wrong.labels, np.iinfo(np.int32).max).min(-1, initial=np.iinfo(np.int32).max)
    pairs = collections.Counter(zip(first.tolist(), wrong.best[:, 0].tolist(), strict=True))
    return [(label, prediction, times) for (label, prediction), times in sorted(pairs.items(), key=_most_often_first)]


def worst_mistakes(results: ImageResults, most: int) -> np.ndarray:
    """Returns the indices of wrong images, those of which the network is most certain first, at most `most`."""
    wrong = np.flatnonzero(results.labelled & ~results.right)
    return wrong[np.argsort(-results.best_probability[wrong, 0], kind="stable")][:most]


def _most_often_first(item: tuple[tuple[int, int], int]) -> tuple[int, tuple[int, int]]:
    pair, times = item
    return -times, pair


def _per_cent(right: np.ndarray) -> float | None:
    return 100.0 * float(right.mean()) if len(right) else None
