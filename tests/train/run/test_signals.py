"""Real signals to real processes, in every phase of a run."""

import re
import signal
import time

import pytest
from etils import epath
from train.run.child import Child
from train.run.processes import Children

from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints

GRACE = 10
IN_ANY_PHASE = ("start", "restore", "input", "compile", "train", "evaluation", "save")
ONE_STAGE = (
    "--config.progressive.stages=1", "--config.progressive.image_size=(17,17)", "--config.evaluation.image_size=17",
)  # fmt: skip
EVALUATING = ("--config.evaluation.every_epochs=0.01",)
LONG = ("--config.steps=100000", "--config.checkpoint.every_epochs=0.05")


def saved(workdir):
    """Returns the step of the newest checkpoint, after verifying it, or -1."""
    checkpoints = Checkpoints(epath.Path(workdir) / CHECKPOINTS)
    return checkpoints.verify().step if checkpoints.steps else -1


@pytest.mark.parametrize(
    ("phase", "number", "overrides", "grace", "waits"),
    [
        ("start", signal.SIGTERM, (), 4, True),
        pytest.param("restore", signal.SIGTERM, (), 4, True, marks=pytest.mark.slow),
        pytest.param("input", signal.SIGINT, (), 4, True, marks=pytest.mark.slow),
        ("compile", signal.SIGINT, (), 30, False),
        ("evaluation", signal.SIGTERM, EVALUATING, 30, False),
        ("save", signal.SIGTERM, LONG, 30, False),
        pytest.param("train", signal.SIGINT, LONG, 30, False, marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_a_run_in_any_phase_within_its_grace_period(tmp_path, phase, number, overrides, grace, waits):
    workdir = tmp_path / "run"
    with Child(workdir, f"--config.grace_seconds={grace}", *ONE_STAGE, *overrides, phase=phase) as child:
        assert child.wait_until(child.waiting.exists), child.ended()
        if phase == "compile":  # the state before the first step is saved meanwhile
            assert child.wait_until((workdir / CHECKPOINTS / "0").exists), child.ended()
        before = saved(workdir)
        child.process.send_signal(number)
        start = time.monotonic()
        code, _, said = child.ended()
        seconds = time.monotonic() - start
    print(f"phase {phase}: ended {seconds:.1f} s after the signal")
    assert code == 75, said
    assert seconds < grace + 2
    lines = [line for line in said.splitlines() if line.startswith("effnetv2 train: ")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    assert "the same command resumes from there" in lines[0]
    assert (f"the grace period of {grace} s is over" in lines[0]) == waits
    if not waits:
        assert saved(workdir) >= max(before, 0)
        named = re.search(r"stopped at step (\d+) after saving", lines[0])
        assert saved(workdir) == (int(named[1]) if named else 0)


def test_a_signal_that_comes_before_the_run_stops_it_before_the_first_step(tmp_path):
    with Child(tmp_path / "run", *ONE_STAGE, phase="import") as child:
        assert child.wait_until(child.waiting.exists), child.ended()
        child.process.send_signal(signal.SIGTERM)
        code, _, said = child.ended()
    assert (code, saved(tmp_path / "run")) == (75, -1), said
    assert said.splitlines()[-1].startswith("effnetv2 train: stopped before the first step; the same command resumes")


@pytest.mark.parametrize("phase", ["start", pytest.param("save", marks=pytest.mark.slow)])
def test_a_second_signal_ends_the_process_at_once_and_leaves_what_is_saved(tmp_path, phase):
    workdir = tmp_path / "run"
    with Child(workdir, "--config.grace_seconds=1000", *ONE_STAGE, *LONG, phase=phase) as child:
        assert child.wait_until(child.waiting.exists), child.ended()
        before = saved(workdir)
        child.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert child.process.poll() is None
        deadline = time.monotonic() + 60
        while child.process.poll() is None and time.monotonic() < deadline:
            child.process.send_signal(signal.SIGTERM)  # one that follows at once counts as the same one
            time.sleep(1)
        code, _, said = child.ended(20)
    assert code == 128 + signal.SIGTERM
    assert "interrupted; what is saved is not affected" in said
    assert saved(workdir) >= before


@pytest.mark.parametrize(
    ("phase", "told"),
    [
        ("compile", 1),
        *(pytest.param(phase, told, marks=pytest.mark.slow) for phase in ("import", *IN_ANY_PHASE) for told in (0, 1)),
    ],
)
def test_one_of_two_processes_is_told_and_both_stop_within_the_grace_period(tmp_path, phase, told):
    workdir, waiting = tmp_path / "run", tmp_path / "WAITING"
    with Children(
        "train", "--config=configs/smoke.py", f"--workdir={workdir}", f"--config.grace_seconds={GRACE}",
        *ONE_STAGE, *LONG, *(EVALUATING if phase == "evaluation" else ()), phase=phase, folder=tmp_path,
    ) as children:  # fmt: skip
        children.wait_until(waiting.exists)
        if phase not in ("import", "start", "restore"):
            children.wait_until((workdir / CHECKPOINTS / "0").exists)
        before = saved(workdir)
        children.signal(told, signal.SIGTERM)
        start = time.monotonic()
        ended = children.ended(60)
        seconds = time.monotonic() - start
    print(f"phase {phase}, process {told} of two is told: ended {seconds:.1f} s after the signal")
    assert [code for code, *_ in ended] == [75, 75], ended
    assert seconds < GRACE + 2
    assert saved(workdir) >= before
    said = "".join(err for *_, err in ended)
    assert "Traceback" not in said
    assert re.search(r"the run is saved up to step \d+|stopped (before the first step|at step \d+ after saving)", said)
