"""Two evaluations of the same images side by side: where they agree, and whether one is better than by chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from effnetv2_jax.evaluate.image_results import ImageResults
from effnetv2_jax.evaluate.suite import Evaluation


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same images. Images without a label are left out.

    Attributes:
      first: the results of the first weights.
      second: the results of the second weights, for the same images in the same order.
      same_class: whether the two name the same class, for each image.
    """

    first: ImageResults
    second: ImageResults
    same_class: np.ndarray

    @property
    def only_first(self) -> np.ndarray:
        """The indices of the images that only the first weights get right, the surest mistakes of the second first."""
        return _surest_first(self.first.right & ~self.second.right, self.second)

    @property
    def only_second(self) -> np.ndarray:
        """The indices of the images that only the second weights get right, the surest mistakes of the first first."""
        return _surest_first(self.second.right & ~self.first.right, self.first)

    def summary(self) -> dict[str, Any]:
        """Returns the numbers of images, the agreement and the p-value of McNemar's test, as JSON values.

        - `images`; `both_right`, `only_first_right`, `only_second_right`, `both_wrong`: numbers of images;
        - `agreement`: per cent of the images for which both name the same class;
        - `top1_difference`: top-1 of the second minus that of the first, in percentage points;
        - `p_value`: the probability of a difference at least as large if both were equally good, by `mcnemar`.
        """
        right, other = self.first.right, self.second.right
        only_first, only_second = int((right & ~other).sum()), int((other & ~right).sum())
        return {
            "images": len(right),
            "both_right": int((right & other).sum()),
            "only_first_right": only_first,
            "only_second_right": only_second,
            "both_wrong": int((~right & ~other).sum()),
            "agreement": 100.0 * float(self.same_class.mean()),
            "top1_difference": 100.0 * (only_second - only_first) / len(right),
            "p_value": mcnemar(only_first, only_second),
        }


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Returns the comparison of two evaluations.

    Raises:
      ValueError: if they are not of the same images, or none of these has a label.
    """
    if not np.array_equal(first.results.names, second.results.names):
        raise ValueError("the two evaluations are not of the same images")
    results = first.results.counted(), second.results.counted()
    if not len(results[0].names):
        raise ValueError("none of the images has a label")
    # The two networks may number the classes differently, so the classes are compared as those of the data.
    named = [
        _classes_of_data(evaluation, result.best[:, 0])
        for evaluation, result in zip((first, second), results, strict=True)
    ]
    return Comparison(*results, named[0] == named[1])


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test, from the numbers of images that only one gets right.

    If both networks were equally good, each of these images would be right for either with probability 1/2.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions, 1947; exact form.
    """
    from scipy.stats import binomtest

    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def difference_rows(comparison: Comparison, first: Evaluation, second: Evaluation) -> list[dict[str, Any]]:
    """Returns a row for each image that only one of the two gets right: its name, its classes, and both predictions."""
    words = [each.candidate.words(each.classes.names) for each in (first, second)]
    rows = []
    for which, indices in (("first", comparison.only_first), ("second", comparison.only_second)):
        for index in indices.tolist():
            row: dict[str, Any] = {"image": comparison.first.names[index].decode(), "right": which}
            row["labels"] = _joined_words(comparison.first.labels[index], words[0])
            for side, results, names in zip(
                ("first", "second"), (comparison.first, comparison.second), words, strict=True
            ):
                row[side] = names[results.best[index, 0]]
                row[f"{side}_probability"] = float(results.best_probability[index, 0])
            rows.append(row)
    return rows


def _joined_words(labels: np.ndarray, words: Sequence[str]) -> str:
    return " / ".join(words[number] for number in labels if number >= 0)


def _classes_of_data(evaluation: Evaluation, predictions: np.ndarray) -> np.ndarray:
    """Returns predictions as names of classes, `[N]`; a class that the data lacks keeps the weights' name."""
    data_names, classes = evaluation.data.class_names, evaluation.classes
    names = [
        data_names[number] if number >= 0 else own for number, own in zip(classes.of_data, classes.names, strict=True)
    ]
    return np.array(names)[predictions]


def _surest_first(chosen: np.ndarray, mistaken: ImageResults) -> np.ndarray:
    indices = np.flatnonzero(chosen)
    return indices[np.argsort(-mistaken.best_probability[indices, 0], kind="stable")]
