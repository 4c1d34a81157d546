"""SIGKILL at random moments: nothing that was saved is lost, and the run ends with the bits of a straight one."""

import contextlib
import functools
import random
import subprocess

import pytest
from etils import epath
from train.run.child import Child, note_batches, noted_batches
from train.smoke import rows, saved_steps, smoke_config

from effnetv2_jax.train import loop
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints
from effnetv2_jax.train.report.metrics import read_metrics
from effnetv2_jax.train.trainer import train

INTERVAL = 3
OVERRIDES = (
    "--config.accumulation_steps=2",
    "--config.progressive.mixup_alpha=(0.2,0.2)",
    "--config.progressive.cutmix_alpha=(0.2,0.2)",
    "--config.progressive.dropout_rate=(0.2,0.2)",
    "--config.progressive.drop_path_rate=(0.2,0.2)",
    "--config.evaluation.every_epochs=0.35",  # 16 steps
    f"--config.checkpoint.every_epochs={INTERVAL * 32 / 1437}",
)


def newest_sound(workdir):
    """Returns the step of the newest sound checkpoint, or -1. Every one that exists must be sound."""
    checkpoints = Checkpoints(epath.Path(workdir) / CHECKPOINTS)
    for step in checkpoints.steps:
        checkpoints.verify(step)
    return max(checkpoints.steps, default=-1)


def killed_and_resumed(workdir, *, kills, steps, seed):
    """Trains in a process that is killed again and again, and returns the largest number of steps that a kill cost.

    The kills follow at random on a step, on the end of a save, or on the start of the process.
    """
    moments, newest, most_lost, unfinished = random.Random(seed), -1, 0, set()
    for kill in range(kills):
        watched = saved_steps if kill % 2 else last_row
        begun = watched(workdir)
        with Child(workdir, *OVERRIDES, f"--config.steps={steps}", phase="batches") as child:
            if kill % 5:
                changed = functools.partial(has_changed, watched, workdir, begun)
                assert child.wait_until(changed), child.ended()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(moments.uniform(0, 0.6 if kill % 5 else 8))
                pytest.fail(f"the run ended before it was killed; give it more steps: {child.ended()}")
            child.process.kill()
            child.process.wait()
        unfinished |= {path.stat().st_ino for path in (workdir / CHECKPOINTS).glob("*.orbax-checkpoint-tmp*")}
        sound = newest_sound(workdir)
        assert sound >= newest, f"kill {kill}: the newest checkpoint went back from {newest} to {sound}"
        newest = sound
        done = max((row["step"] for row in last_row(workdir)), default=0)
        most_lost = max(most_lost, done - max(newest, 0))
        print(f"kill {kill + 1} of {kills}, {len(unfinished)} in saves: {done} steps done, {newest} saved", flush=True)
    return most_lost


def has_changed(watched, workdir, before):
    return watched(workdir) not in ([], before)


def last_row(workdir):
    return read_metrics(epath.Path(workdir))[-1:] if workdir.exists() else []


@pytest.mark.parametrize(("kills", "steps"), [(10, 80), pytest.param(100, 1500, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_with_the_bits_of_a_straight_one(tmp_path, monkeypatch, kills, steps):
    """At a kill, a save may be in progress: then the run goes on from the one before it, at most two intervals back."""
    lost = killed_and_resumed(tmp_path / "killed", kills=kills, steps=steps, seed=kills)
    print(f"{kills} kills, at most {lost} steps lost, {INTERVAL} steps between two checkpoints")
    assert lost <= 2 * INTERVAL
    for name in ("killed", "straight"):
        with monkeypatch.context() as patch:
            patch.setattr(loop.Loop, "_watched", note_batches(loop.Loop._watched, tmp_path / f"{name}.txt"))
            train(smoke_config(*OVERRIDES, f"--config.steps={steps}"), str(tmp_path / name))
    digests = [
        Checkpoints(epath.Path(tmp_path) / name / CHECKPOINTS).verify(steps).digests for name in ("killed", "straight")
    ]
    assert [name for name in digests[1] if digests[0][name] != digests[1][name]] == []
    batches = [
        noted_batches(tmp_path / "batches_0.txt", tmp_path / "killed.txt"),
        noted_batches(tmp_path / "straight.txt"),
    ]
    assert batches[0] == batches[1]
    assert rows(tmp_path / "killed") == rows(tmp_path / "straight")
    assert len({(row["step"], *sorted(row)) for row in rows(tmp_path / "killed")}) == len(rows(tmp_path / "killed"))
