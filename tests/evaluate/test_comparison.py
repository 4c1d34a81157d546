"""Two networks side by side: McNemar's test, agreement, and the images that only one gets right."""

import dataclasses
import math
import types

import numpy as np
import pytest

from effnetv2_jax.evaluate.comparison import compare, difference_rows, mcnemar
from effnetv2_jax.evaluate.image_results import ImageResults
from effnetv2_jax.evaluate.images.class_map import match_classes


def made(best, confidence, labels, names=("a", "b", "c")):
    """Returns what a comparison needs of an evaluation, for the first classes of images."""
    count = len(best)
    results = ImageResults(
        names=np.array([f"{index}.jpg".encode() for index in range(count)]),
        labels=np.array(labels, np.int32).reshape(count, -1),
        best=np.array(best, np.int32)[:, None],
        best_probability=np.array(confidence)[:, None],
        probability=np.zeros(count),
        loss=np.zeros(count),
    )
    return types.SimpleNamespace(
        results=results,
        classes=match_classes(("a", "b", "c"), names, 3),
        data=types.SimpleNamespace(class_names=("a", "b", "c")),
        candidate=types.SimpleNamespace(words=lambda names: [name.upper() for name in names]),
    )


@pytest.mark.parametrize(("one", "other"), [(0, 0), (5, 0), (3, 9), (40, 31), (7, 7)])
def test_mcnemars_test_is_the_exact_binomial_one(one, other):
    """Twice the smaller tail of the binomial distribution with p = 1/2, at most 1."""
    total = one + other
    tail = sum(math.comb(total, k) for k in range(min(one, other) + 1)) / 2**total
    assert mcnemar(one, other) == pytest.approx(min(1, 2 * tail))


def test_images_are_counted_by_which_network_is_right():
    first = made([0, 1, 1, 2, 0], [0.9, 0.8, 0.4, 0.6, 0.5], [0, 1, 0, 1, -1])
    second = made([0, 0, 0, 2, 0], [0.7, 0.5, 0.8, 0.9, 0.5], [0, 1, 0, 1, -1])
    comparison = compare(first, second)
    summary = comparison.summary()
    assert summary == {
        "images": 4,
        "both_right": 1,
        "only_first_right": 1,
        "only_second_right": 1,
        "both_wrong": 1,
        "agreement": 50.0,
        "top1_difference": 0.0,
        "p_value": 1.0,
    }
    assert difference_rows(comparison, first, second) == [
        {
            "image": "1.jpg",
            "right": "first",
            "labels": "B",
            "first": "B",
            "first_probability": 0.8,
            "second": "A",
            "second_probability": 0.5,
        },
        {
            "image": "2.jpg",
            "right": "second",
            "labels": "A",
            "first": "B",
            "first_probability": 0.4,
            "second": "A",
            "second_probability": 0.8,
        },
    ]


def test_the_surest_mistakes_come_first():
    first = made([0, 0, 0], [0.9, 0.9, 0.9], [0, 0, 0])
    second = made([1, 1, 1], [0.5, 0.9, 0.7], [0, 0, 0])
    comparison = compare(first, second)
    assert comparison.only_first.tolist() == [1, 2, 0]
    assert comparison.only_second.tolist() == []
    assert comparison.summary()["p_value"] == pytest.approx(0.25)


def test_networks_that_number_the_classes_differently_agree_on_their_names():
    first = made([0, 1, 2], [0.9, 0.9, 0.9], [0, 1, 2])
    second = made([2, 1, 0], [0.9, 0.9, 0.9], [2, 1, 0], names=("c", "b", "a"))
    assert compare(first, second).summary()["agreement"] == 100
    assert compare(first, first).summary()["both_right"] == 3


def test_evaluations_of_other_images_are_refused():
    first = made([0, 1], [0.9, 0.9], [0, 1])
    other = dataclasses.replace(first.results, names=np.array([b"x.jpg", b"y.jpg"]))
    with pytest.raises(ValueError, match="not of the same images"):
        compare(first, types.SimpleNamespace(results=other))
