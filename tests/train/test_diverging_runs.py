"""Runs whose numbers are no longer finite: what they keep, what they skip, and when they stop."""

import jax.numpy as jnp
import numpy as np
import pytest
from train.smoke import assert_same_run, rows, saved_steps, smoke_config, stopping_at

from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train.recipe.step import prepare
from effnetv2_jax.train.run.divergence import Diverged
from effnetv2_jax.train.run.preemption import Stopped
from effnetv2_jax.train.trainer import train

RATE = "optimizer.schedule.base_rate"
SAVED_AT_EACH_STEP = (
    "--config.progressive.stages=1", "--config.progressive.image_size=(17,17)",
    "--config.checkpoint.every_epochs=0.001", "--config.log_every_steps=100",
)  # fmt: skip


@pytest.mark.parametrize(
    ("part", "layer", "name"), [("params", "classifier", "bias"), ("batch_stats", "stem_norm", "mean")]
)
def test_a_state_that_is_not_finite_stops_the_run_without_saving(tmp_path, part, layer, name):
    """A BatchNorm statistic that is not finite changes no loss in training, so only the look at the state shows it."""

    def broken_variables(model):
        variables = init_variables(model, 0)
        variables[part][layer][name][0] = np.nan
        return variables

    with pytest.raises(
        FloatingPointError, match=rf"{layer}/{name} is not finite after step 0 .*stage 1, learning rate"
    ):
        train(smoke_config(), str(tmp_path), broken_variables)
    assert saved_steps(tmp_path) == []


@pytest.mark.parametrize(
    ("base_rate", "message", "kept"),
    [
        ("1e10", "loss is nan at step 3 .* step 2 .*deleted.* 0, 1$", [0, 1]),
        pytest.param("1e39", "not finite after step 1.* steps: 0$", [0], marks=pytest.mark.slow),
    ],
)
def test_a_run_that_diverges_deletes_the_checkpoint_that_caused_it(tmp_path, base_rate, message, kept):
    """It saves after each step. A step with a far too large rate has a finite loss, but leaves a useless state."""
    config = smoke_config(f"--config.{RATE}={base_rate}", *SAVED_AT_EACH_STEP)
    for _ in range(2):  # the second run resumes from the checkpoint that is kept
        with pytest.raises(Diverged, match=message):
            train(config, str(tmp_path))
        assert saved_steps(tmp_path) == kept


def test_a_run_that_has_diverged_goes_on_with_another_learning_rate_if_asked(tmp_path):
    with pytest.raises(Diverged, match=r"steps: 0$"):
        train(smoke_config(f"--config.{RATE}=1e39", *SAVED_AT_EACH_STEP), str(tmp_path))
    lower = smoke_config(*SAVED_AT_EACH_STEP)
    with pytest.raises(ValueError, match=f"--accept-changes {RATE} changes the run from now on"):
        train(lower, str(tmp_path))
    summary = train(lower, str(tmp_path), accepted_changes=[RATE])
    assert (summary["steps"], saved_steps(tmp_path)[-1]) == (12, 12)
    assert [row["step"] for row in rows(tmp_path) if "raw/top1" in row] == [12]


def test_a_skipped_step_is_reported_and_a_resumed_run_still_ends_with_the_same_bits(tmp_path, monkeypatch, capsys):
    """Two steps in a row are bad; the run is stopped between them."""

    def prepare_badly(recipe, stage, batch, step):
        images, targets = prepare(recipe, stage, batch, step)
        return jnp.where((step == 3) | (step == 4), jnp.nan, images), targets

    monkeypatch.setattr("effnetv2_jax.train.recipe.step.prepare", prepare_badly)
    config = smoke_config(
        "--config.optimizer.max_bad_steps=2", "--config.log_every_steps=5", "--config.progressive.stages=1"
    )
    train(config, str(tmp_path / "straight"))
    assert "warning: 2 steps up to 5 are skipped, because the loss" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        stopping_at(patch, 4)
        with pytest.raises(Stopped):
            train(config, str(tmp_path / "stopped"))
    train(config, str(tmp_path / "stopped"))
    assert_same_run(tmp_path / "stopped", tmp_path / "straight")
    got = rows(tmp_path / "straight")
    assert [row["step"] for row in got if "train/skipped_steps" in row] == [4, 5]
    assert [row["step"] for row in got if "train/learning_rate" in row] == [5, 10, 12]
    assert [row["step"] for row in got if "train/loss" in row] == [10, 12]
    assert "NaN" not in (tmp_path / "straight/metrics.jsonl").read_text()


def test_more_bad_steps_in_a_row_than_allowed_stop_the_run(tmp_path, monkeypatch):
    def prepare_badly(recipe, stage, batch, step):
        images, targets = prepare(recipe, stage, batch, step)
        return jnp.where(step >= 4, jnp.nan, images), targets

    monkeypatch.setattr("effnetv2_jax.train.recipe.step.prepare", prepare_badly)
    config = smoke_config(
        "--config.optimizer.max_bad_steps=2", "--config.log_every_steps=100", "--config.progressive.stages=1"
    )
    with pytest.raises(Diverged, match=r"loss is nan at step 7, the last of 3 bad steps in a row.*: 0$"):
        train(config, str(tmp_path))
    assert saved_steps(tmp_path) == [0]
