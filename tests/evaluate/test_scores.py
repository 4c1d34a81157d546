"""Scores equal those of scikit-learn, and of cases worked out by hand."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

from effnetv2_jax.evaluate.image_results import ImageResults, _packed, _unpacked, gathered, joined
from effnetv2_jax.evaluate.images.class_map import match_classes
from effnetv2_jax.evaluate.scores import class_scores, confusions, reliability, scores, worst_mistakes

CLASSES, IMAGES = 12, 300


def results_of(probabilities, labels):
    """Returns results for probabilities `[N, C]` and lists of labels."""
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :5].astype(np.int32)
    padded = np.full((len(labels), max(1, *map(len, labels))), -1, np.int32)
    for row, own in zip(padded, labels, strict=True):
        row[: len(own)] = sorted(own)
    own = np.array([probabilities[row, list(label)].sum() for row, label in enumerate(labels)])
    with np.errstate(divide="ignore"):
        loss = -np.log(own)
    names = np.array([f"{index:05d}".encode() for index in range(len(labels))])
    return ImageResults(names, padded, best, np.take_along_axis(probabilities, best, -1), own, loss)


@pytest.fixture(scope="module")
def made():
    """Probabilities that are somewhat right, and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, IMAGES)
    logits = rng.normal(0, 1.5, (IMAGES, CLASSES)) + 2 * np.eye(CLASSES)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return probabilities, labels, results_of(probabilities, labels[:, None])


def test_accuracies_and_loss_equal_those_of_scikit_learn(made):
    probabilities, labels, results = made
    found = scores(results)
    for k in (1, 5):
        expected = top_k_accuracy_score(labels, probabilities, k=k, labels=range(CLASSES))
        assert found[f"top{k}"] == pytest.approx(100 * expected)
    assert found["loss"] == pytest.approx(-np.log(probabilities[range(IMAGES), labels]).mean())
    assert (found["count"], found["unlabelled"]) == (IMAGES, 0)


def test_classes_and_confusions_equal_those_of_scikit_learn(made):
    probabilities, labels, results = made
    predicted = probabilities.argmax(-1)
    matrix = confusion_matrix(labels, predicted, labels=range(CLASSES))
    pairs = confusions(results)
    assert {(label, prediction): times for label, prediction, times in pairs} == {
        (row, column): matrix[row, column] for row, column in np.argwhere(matrix).tolist() if row != column
    }
    assert [times for *_, times in pairs] == sorted((times for *_, times in pairs), reverse=True)
    names = [f"c{index}" for index in range(CLASSES)]
    rows = class_scores(results, match_classes(names, names, CLASSES), [name.upper() for name in names])
    precision, recall, _, support = precision_recall_fscore_support(labels, predicted, labels=range(CLASSES))
    assert [row["images"] for row in rows] == support.tolist()
    assert [row["top1"] for row in rows] == pytest.approx(100 * recall)
    assert [row["precision"] for row in rows] == pytest.approx(100 * precision)
    assert [row["predicted"] for row in rows] == matrix.sum(0).tolist()
    for number, row in enumerate(rows):
        others = matrix[number] * (np.arange(CLASSES) != number)
        assert (row["class"], row["id"], row["name"]) == (number, f"c{number}", f"C{number}")
        assert row["times"] == others.max()
        assert others[int(row["mistaken_for"][1:])] == others.max()


def test_the_reliability_equals_scikit_learns_curve(made):
    probabilities, labels, results = made
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    bins = reliability(confidence, right, bins=10)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    assert bins.accuracy[bins.count > 0] == pytest.approx(accuracy)
    assert bins.confidence[bins.count > 0] == pytest.approx(mean)
    assert bins.count.sum() == IMAGES
    assert scores(results)["ece"] == pytest.approx(100 * reliability(confidence, right, bins=15).error)


@pytest.mark.parametrize(
    ("confidence", "right", "error"),
    [
        ([1.0, 1.0, 1.0, 1.0], [1, 1, 1, 1], 0.0),
        ([1.0, 1.0, 1.0, 1.0], [1, 0, 1, 1], 0.25),
        ([0.8, 0.8, 0.8, 0.8, 0.8], [1, 1, 1, 1, 0], 0.0),
        # Two bins of two and three images: |1/2 − 0.55| · 2/5 + |2/3 − 0.95| · 3/5.
        ([0.52, 0.58, 0.95, 0.94, 0.96], [1, 0, 1, 1, 0], 0.05 * 2 / 5 + (0.95 - 2 / 3) * 3 / 5),
    ],
)
def test_the_calibration_error_of_cases_worked_out_by_hand(confidence, right, error):
    bins = reliability(np.array(confidence), np.array(right, bool), bins=10 if len(set(confidence)) > 1 else 15)
    assert bins.error == pytest.approx(error)


def test_any_label_of_an_image_is_right_and_images_without_one_are_not_counted():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]])
    results = results_of(probabilities, [(1, 0), (), (0, 2), (0,)])
    found = scores(results)
    assert (found["count"], found["unlabelled"]) == (3, 1)
    assert found["top1"] == pytest.approx(200 / 3)
    assert found["loss"] == pytest.approx(-np.log([0.9, 0.2, 0.5]).mean())
    assert confusions(results) == [(0, 1, 1)]
    rows = class_scores(results, match_classes("abc", "abc", 3), list("abc"))
    assert [(row["images"], row["top1"]) for row in rows] == [(3, pytest.approx(200 / 3)), (1, 100), (1, 0)]
    with pytest.raises(ValueError, match="none of the images"):
        scores(results.only([1]))


def test_the_worst_mistakes_are_those_of_which_the_network_is_surest():
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    results = results_of(probabilities, [(1,), (1,), (0,), (0,)])
    assert worst_mistakes(results, 2).tolist() == [3, 2]
    assert worst_mistakes(results, 9).tolist() == [3, 2, 0]


def test_results_are_joined_with_labels_of_any_number_and_sorted_by_name():
    probabilities = np.eye(3)
    one, two = results_of(probabilities, [(0,), (1,), (2,)]), results_of(probabilities, [(0, 2), (1,), ()])
    whole = joined([_unpacked(_packed(two.only([2, 0]))), one.only([1])])  # as processes send them to each other
    assert whole.labels.tolist() == [[-1, -1], [0, 2], [1, -1]]
    assert gathered(whole).names.tolist() == [b"00000", b"00001", b"00002"]
