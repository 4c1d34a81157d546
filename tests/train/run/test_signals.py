"""Real signals to real processes, in every phase of a run."""

import re
import signal
import time

import pytest
from etils import epath
from train.run.child import Child
from train.run.processes import Children

from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints

LONG = ("--config.steps=100000", "--config.checkpoint.every_epochs=0.05")


def saved(workdir):
    """Returns the step of the newest checkpoint, after verifying it, or -1."""
    checkpoints = Checkpoints(epath.Path(workdir) / CHECKPOINTS)
    return checkpoints.verify().step if checkpoints.steps else -1


@pytest.mark.parametrize(
    ("phase", "number", "overrides", "grace", "waits"),
    [
        ("start", signal.SIGTERM, (), 4, True),
        ("compile", signal.SIGINT, (), 30, False),
        ("evaluation", signal.SIGTERM, ("--config.evaluation.every_epochs=0.01",), 30, False),
        ("save", signal.SIGTERM, LONG, 30, False),
        ("train", signal.SIGINT, LONG, 30, False),
    ],
)
def test_a_signal_stops_a_run_in_any_phase_within_its_grace_period(tmp_path, phase, number, overrides, grace, waits):
    workdir = tmp_path / "run"
    with Child(workdir, f"--config.grace_seconds={grace}", *overrides, phase=phase) as child:
        assert child.wait_until(child.waiting.exists), child.ended()
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


def test_a_second_signal_ends_the_process_at_once_and_leaves_what_is_saved(tmp_path):
    workdir = tmp_path / "run"
    with Child(workdir, "--config.grace_seconds=1000", *LONG, phase="start") as child:
        assert child.wait_until(child.waiting.exists), child.ended()
        child.process.send_signal(signal.SIGTERM)
        time.sleep(1)  # a signal that follows at once counts as the same one
        assert child.process.poll() is None
        child.process.send_signal(signal.SIGTERM)
        code, _, said = child.ended(20)
    assert code == 128 + signal.SIGTERM
    assert "interrupted; what is saved is not affected" in said


def test_one_of_two_processes_is_told_while_both_wait_for_a_program(tmp_path):
    workdir, waiting = tmp_path / "run", tmp_path / "WAITING"
    with Children(
        "train", "--config=configs/smoke.py", f"--workdir={workdir}", "--config.grace_seconds=8", phase="compile",
        folder=tmp_path,
    ) as children:  # fmt: skip
        children.wait_until(waiting.exists)
        children.wait_until((workdir / CHECKPOINTS / "0").exists)
        children.signal(1, signal.SIGTERM)
        ended = children.ended(60)
    assert [code for code, *_ in ended] == [75, 75], ended
    assert saved(workdir) == 0
