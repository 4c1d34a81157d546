"""Runs that are stopped at every kind of moment and resumed: they end with the bits and metrics of straight ones."""

import signal

import pytest
from train.run.child import note_batches, noted_batches
from train.run.processes import Children
from train.smoke import assert_same_run, rows, smoke_config, stopping_at

from effnetv2_jax.train import loop, trainer
from effnetv2_jax.train.checkpoint import saver
from effnetv2_jax.train.run.preemption import Stopped

STEPS, BOUNDARY, EPOCH, EVERY = 92, 46, 45, 4  # 1,437 images are 44.9 batches; evaluations and saves every 4 steps
OVERRIDES = (
    f"--config.steps={STEPS}",
    "--config.accumulation_steps=2",
    "--config.progressive.mixup_alpha=(0.2,0.2)",
    "--config.progressive.cutmix_alpha=(0.2,0.2)",
    "--config.progressive.dropout_rate=(0.2,0.2)",
    "--config.progressive.drop_path_rate=(0.2,0.2)",
    f"--config.evaluation.every_epochs={2 * EVERY * 32 / 1437}",
    f"--config.checkpoint.every_epochs={EVERY * 32 / 1437}",
)


def train(workdir):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "_watched", note_batches(loop.Loop._watched, workdir / "batches_0.txt"))
        trainer.train(smoke_config(*OVERRIDES), str(workdir))


def assert_same_batches_and_run(workdir, other, process=0):
    expected = noted_batches(other / f"batches_{process}.txt")
    assert sorted(expected) == list(range(STEPS))
    assert noted_batches(workdir / f"batches_{process}.txt") == expected
    assert_same_run(workdir, other)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("straight")
    train(workdir)
    return workdir


def signal_in_evaluation(patch, step):
    progress = loop.Loop._progress

    def signalled(self, phase):
        if phase == "evaluate" and self.step == step:
            signal.raise_signal(signal.SIGTERM)
        progress(self, phase)

    patch.setattr(loop.Loop, "_progress", signalled)


def signal_in_save(patch, step):
    write, save = saver.write, saver.Saver.save

    def signalled(self, saved_step, state):
        save(self, saved_step, state)
        if saved_step == step:
            signal.raise_signal(signal.SIGTERM)

    patch.setattr(saver, "write", lambda path, saved_step, tree: write(path, saved_step, tree))
    patch.setattr(saver.Saver, "save", signalled)


MOMENTS = {
    "within a stage": (stopping_at, 18),
    "before a stage boundary": (stopping_at, BOUNDARY - 1),
    "at a stage boundary": (stopping_at, BOUNDARY),
    "after a stage boundary": (stopping_at, BOUNDARY + 1),
    "at the end of an epoch": (stopping_at, EPOCH),
    "at the last step": (stopping_at, STEPS),
    "in an evaluation": (signal_in_evaluation, 32),
    "in the last evaluation": (signal_in_evaluation, STEPS),
    "in a save": (signal_in_save, 24),
    "in the save before the first step": (signal_in_save, 0),
}


def stopped_and_resumed(workdir, monkeypatch, *moments):
    for moment in moments:
        with monkeypatch.context() as patch:
            way, step = MOMENTS[moment]
            way(patch, step)
            with pytest.raises(Stopped):
                train(workdir)
    train(workdir)


def test_a_run_that_is_stopped_at_every_kind_of_moment_ends_with_the_same_bits(straight, tmp_path, monkeypatch):
    stopped_and_resumed(tmp_path, monkeypatch, "in an evaluation", "at the end of an epoch", "in the last evaluation")
    assert_same_batches_and_run(tmp_path, straight)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_is_stopped_once_ends_with_the_same_bits(straight, tmp_path, monkeypatch, moment):
    stopped_and_resumed(tmp_path, monkeypatch, moment)
    assert_same_batches_and_run(tmp_path, straight)


@pytest.mark.slow
def test_two_processes_that_are_stopped_and_resumed_end_with_the_same_bits(tmp_path):
    for name, stops in (("straight", 0), ("stopped", 2)):
        arguments = ("train", "--config=configs/smoke.py", f"--workdir={tmp_path / name}", *OVERRIDES)
        (tmp_path / name).mkdir()
        for told in range(stops):
            before = rows(tmp_path / name)
            with Children(*arguments, phase="batches", folder=tmp_path / name) as children:
                children.wait_until(lambda before=before, name=name: len(rows(tmp_path / name)) > len(before) + 7)
                children.signal(told, signal.SIGTERM)
                ended = children.ended()
            assert [code for code, *_ in ended] == [75, 75], ended
        with Children(*arguments, phase="batches", folder=tmp_path / name) as children:
            ended = children.ended()
        assert [code for code, *_ in ended] == [0, 0], ended
    for process in range(2):
        assert_same_batches_and_run(tmp_path / "stopped", tmp_path / "straight", process)
