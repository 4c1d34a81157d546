"""Runs with all controls of fine-tuning: a stage for the classifier, frozen rows, rates by layer and a teacher."""

import numpy as np
import pytest
from etils import epath
from train.smoke import assert_same_run, rows, smoke_config, stopping_at

from effnetv2_jax import save_variables
from effnetv2_jax.cli.teacher import load_teacher
from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train import trainer
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints
from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.run.preemption import Stopped

HEAD_STEPS, STEPS = 3, 8
OVERRIDES = (
    f"--config.steps={STEPS}",
    f"--config.progressive.head_epochs={HEAD_STEPS * 32 / 1437}",
    "--config.progressive.stages=1",
    "--config.progressive.image_size=(17,)",
    *(f"--config.progressive.{name}=(0.2,)" for name in ("magnitude", "mixup_alpha", "cutmix_alpha")),
    *(f"--config.progressive.{name}=(0.2,)" for name in ("dropout_rate", "drop_path_rate")),
    "--config.optimizer.layer_decay=0.8",
    "--config.optimizer.head_rate=2.0",
    "--config.optimizer.frozen=('stem',)",
    "--config.optimizer.frozen_rows=(0,)",
    "--config.distillation.weight=0.4",
    "--config.distillation.temperature=2.0",
)


def write_teacher(path, seed):
    model = make_experiment(smoke_config(), 1).model
    save_variables(path, init_variables(model, seed), model.spec)
    return path


def train(workdir, teacher, *overrides):
    config = smoke_config(*OVERRIDES, f"--config.distillation.teacher={teacher}", *overrides)
    return trainer.train(config, str(workdir), teacher=load_teacher(config))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    train(folder / "run", write_teacher(folder / "teacher.safetensors", seed=3), "--config.checkpoint.keep=9")
    return folder


def state(folder, step):
    return Checkpoints(epath.Path(folder / "run") / CHECKPOINTS).read(step).arrays


def differing(one, other):
    return {name for name in one if not np.array_equal(one[name], other[name])}


def test_the_first_stage_trains_the_classifier_and_the_second_what_is_not_frozen(straight):
    before, between, after = (state(straight, step) for step in (0, HEAD_STEPS, STEPS))
    first, second = differing(before, between), differing(between, after)
    assert {name for name in first if "classifier" not in name and not name.endswith("count")} == {"step"}
    assert {"params/classifier/kernel", "params/classifier/bias"} <= first & second
    frozen = {name for name in before if any(part.startswith(("stem_", "block_0")) for part in name.split("/"))}
    assert frozen
    assert not frozen & second
    assert {name for name in before if name.startswith(("params/", "batch_stats/"))} - frozen <= second


def test_the_rows_of_metrics_have_the_distance_from_the_teacher(straight):
    found = [row for row in rows(straight / "run") if "train/loss" in row]
    assert [row["train/stage"] for row in found] == [1] * HEAD_STEPS + [2] * (STEPS - HEAD_STEPS)
    for row in found:
        expected = 0.6 * row["train/xent"] + 0.4 * row["train/distillation"] + row["train/l2"]
        assert row["train/loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_run_that_is_stopped_in_both_stages_ends_with_the_same_bits(straight, tmp_path, monkeypatch):
    for step in (HEAD_STEPS - 1, HEAD_STEPS + 2):
        with monkeypatch.context() as patch:
            stopping_at(patch, step)
            with pytest.raises(Stopped):
                train(tmp_path, straight / "teacher.safetensors")
    train(tmp_path, straight / "teacher.safetensors")
    assert_same_run(tmp_path, straight / "run")


def test_a_run_does_not_resume_with_another_teacher(straight, tmp_path):
    (straight / "teacher.safetensors").rename(tmp_path / "kept")
    write_teacher(straight / "teacher.safetensors", seed=4)
    try:
        with pytest.raises(ValueError, match="another teacher; its weights differ"):
            train(straight / "run", straight / "teacher.safetensors")
    finally:
        (tmp_path / "kept").replace(straight / "teacher.safetensors")


def test_a_teacher_that_was_not_given_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"distillation.teacher is 'missing', and its weights were not given"):
        trainer.train(smoke_config("--config.distillation.teacher=missing"), str(tmp_path))
