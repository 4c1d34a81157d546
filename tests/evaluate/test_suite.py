"""The suite's results equal those of the trainer's evaluation, in every view, with every image once."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from evaluate.conftest import SIZE, logits_of, write_folder
from train.run.processes import Children
from train.smoke import smoke_config

from effnetv2_jax.cli.main import main
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.pipeline import eval_batches
from effnetv2_jax.evaluate.candidate import load_candidates
from effnetv2_jax.evaluate.images.evaluation_data import configured_data, named_data
from effnetv2_jax.evaluate.images.view import View, ViewChoice, parse_sizes
from effnetv2_jax.evaluate.suite import evaluate_suite
from effnetv2_jax.train.evaluation import evaluate_weights
from effnetv2_jax.train.recipe.losses import make_loss

BATCH = 50  # does not divide the 360 images


@pytest.fixture(scope="module")
def digits():
    return named_data("digits")


@pytest.fixture(scope="module")
def candidates(digits_weights):
    return load_candidates(digits_weights)


@pytest.fixture(scope="module")
def evaluations(candidates, digits):
    """Evaluations of both candidates, mirrored or not, by (file of weights, mirrored)."""
    return {
        (each.candidate.checkpoint, flip): each
        for flip in (False, True)
        for each in evaluate_suite(candidates, digits, ViewChoice(flip=flip), batch_size=BATCH)
    }


def test_scores_equal_those_of_the_trainers_evaluation(candidates):
    config = smoke_config(f"--config.evaluation.image_size={SIZE}", "--config.data.preprocessing=finetune")
    data = configured_data(config.data)
    suite = evaluate_suite(candidates, data, ViewChoice(), batch_size=96, loss=make_loss(config.loss))
    for evaluation in suite:
        weights = evaluation.candidate.weights
        (expected,) = evaluate_weights(config, weights.model(), {"x": weights.variables}).values()
        got = evaluation.row()
        assert (got["top1"], got["top5"], got["count"]) == (expected["top1"], expected["top5"], expected["count"])
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_each_image_has_one_result_that_follows_from_its_logits(evaluations, digits_weights):
    config = DataConfig(preprocessing="finetune", threads=2)
    (batch,) = eval_batches(config, image_size=SIZE, batch_size=360)
    images = (batch["image"].astype(np.float32) - 127.5) / 127.5
    for path in digits_weights:
        logits = logits_of(path, images)
        mirrored = (logits + logits_of(path, images[:, :, ::-1])) / 2
        for flip, expected in ((False, logits), (True, mirrored)):
            results = evaluations[path, flip].results
            assert len(set(results.names.tolist())) == 360
            order = np.argsort([int(name.decode().rpartition("__")[2]) for name in results.names])
            np.testing.assert_array_equal(results.labels[order, 0], batch["label"])
            np.testing.assert_array_equal(results.best[order, 0], expected.argmax(-1))
            log_probabilities = expected - np.log(np.exp(expected).sum(-1, keepdims=True))
            own = log_probabilities[range(360), batch["label"]]
            np.testing.assert_allclose(-results.loss[order], own, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(results.probability[order], np.exp(own), rtol=1e-3, atol=1e-6)


def test_a_folder_of_some_classes_gives_the_same_numbers_in_any_order(candidates, tmp_path):
    """The weights choose from all their classes, or only from those of the data."""
    folder = write_folder(tmp_path / "some", {f"{digit}/{number}.jpg": number for number, digit in enumerate("7722")})
    data = named_data(folder)
    assert (data.name, data.class_names, data.examples) == ("some", ("2", "7"), 4)
    every, few = (
        next(evaluate_suite(candidates[:1], data, ViewChoice(), batch_size=4, only_data_classes=only))
        for only in (False, True)
    )
    assert every.classes.columns == tuple(range(10))
    assert few.classes.columns == (2, 7)
    assert every.results.labels[:, 0].tolist() == [2, 2, 7, 7]
    assert few.results.labels[:, 0].tolist() == [0, 0, 1, 1]
    assert few.results.best.shape == (4, 2)
    odds = {"every": every, "few": few}
    for name, each in odds.items():
        np.testing.assert_allclose(each.results.best_probability.sum(-1) <= 1.0001, True, err_msg=name)
    np.testing.assert_allclose(few.results.best_probability.sum(-1), 1, rtol=1e-5)


def test_a_batch_that_does_not_divide_over_the_devices_is_refused(candidates, digits):
    with pytest.raises(ValueError, match="the batch 3 does not divide over 2 devices"):
        next(evaluate_suite(candidates, digits, ViewChoice(), batch_size=3))


def test_views_follow_from_the_weights_unless_they_are_chosen(candidates):
    provenance = candidates[0].provenance
    assert ViewChoice().of(provenance) == [View(SIZE, "whole", "finetune")]
    assert ViewChoice(preprocessing="v2").of(provenance) == [View(SIZE, "centre", "v2")]
    recorded = dataclasses.replace(provenance, eval_crop="centre", preprocessing="v2")
    assert ViewChoice((32, 320)).of(recorded) == [View(32, "centre", "v2"), View(320, "centre", "v2")]
    assert ViewChoice((40,), ("centre", "whole"), flip=True).of(provenance) == [
        View(40, "centre", "finetune", flip=True),
        View(40, "whole", "finetune", flip=True),
    ]
    with pytest.raises(ValueError, match=r"needs images of at least \d+ px, got 1"):
        ViewChoice((1,)).of(provenance)


def test_sizes_are_ranges_that_include_their_end_or_lists():
    assert parse_sizes("224:480:32") == tuple(range(224, 481, 32))
    assert parse_sizes("224:260:32") == (224, 256)
    assert parse_sizes("300,224") == (300, 224)
    for wrong in ("", "a", "224:480", "480:224:32", "0,8", "224:480:0"):
        with pytest.raises(ValueError, match="neither FIRST:LAST:STEP"):
            parse_sizes(wrong)


def numbers(row):
    return {key: value for key, value in row.items() if not isinstance(value, str)}


@pytest.mark.slow
def test_two_processes_give_the_results_of_one(digits_weights, tmp_path, capsys):
    """Each evaluates 180 images, and the first writes all 360."""
    arguments = [
        "--config=configs/smoke.py",
        f"--checkpoint={digits_weights[0]}",
        "--flip",
        "--batch-size=64",
        "--json",
    ]
    assert main(["evaluate", *arguments, f"--predictions={tmp_path / 'one.csv'}"]) == 0
    (alone,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    report = tmp_path / "report"
    written = (f"--predictions={tmp_path / 'two.csv'}", f"--report={report}")
    with Children("evaluate", *arguments, *written) as children:
        first, second = children.ended()
    assert (first[0], second[0]) == (0, 0), (first[2], second[2])
    (together,) = json.loads(first[1].strip().splitlines()[-1])
    assert together["count"] == alone["count"] == 360
    assert numbers(together) == pytest.approx(numbers(alone), rel=1e-5)
    assert json.loads((report / "results.json").read_text()) == [together]
    images = [
        [(row["image"], row["labels"], row["right"], row["class_1"]) for row in csv.DictReader(path.open())]
        for path in (tmp_path / "one.csv", tmp_path / "two.csv")
    ]
    assert len(images[0]) == 360
    assert images[0] == images[1]
