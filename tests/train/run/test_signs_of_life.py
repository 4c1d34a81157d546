"""Signs of life: the file for watchdogs, and the end of processes that wait for one that hangs or is lost."""

import json
import re
import signal
import time

import pytest
from etils import epath
from train.run.processes import Children

from effnetv2_jax.train.run import heartbeat
from effnetv2_jax.train.run.heartbeat import HEARTBEAT, Heartbeat


@pytest.fixture
def often(monkeypatch):
    """Files are written hundreds of times a second."""
    monkeypatch.setattr(heartbeat, "_WRITE_SECONDS", 0.005)


def read(folder):
    return json.loads((folder / HEARTBEAT).read_text())


def wait_for(happened):
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.usefixtures("often")
def test_the_file_tells_time_step_stage_and_phase_and_changes_only_with_progress(tmp_path):
    with Heartbeat(epath.Path(tmp_path)) as alive:
        wait_for((tmp_path / HEARTBEAT).exists)
        assert read(tmp_path) == {"time": pytest.approx(time.time(), abs=60), "step": 0, "stage": 0, "phase": "start"}
        alive.beat("compile", 7, 2)
        wait_for(lambda: read(tmp_path)["step"] == 7)
        first = read(tmp_path)
        time.sleep(0.05)
        assert read(tmp_path) == first
        alive.beat("evaluate")
        wait_for(lambda: read(tmp_path)["phase"] == "evaluate")
        assert (read(tmp_path)["step"], read(tmp_path)["stage"]) == (7, 2)
        assert read(tmp_path)["time"] > first["time"]
        alive.beat("done")
    assert read(tmp_path)["phase"] == "done"
    assert [path.name for path in tmp_path.iterdir()] == [HEARTBEAT]


@pytest.mark.usefixtures("often")
def test_a_folder_that_cannot_be_written_does_not_end_the_run(tmp_path):
    with Heartbeat(epath.Path(tmp_path / "missing")) as alive:
        time.sleep(0.05)
        alive.beat("train", 1)


@pytest.mark.usefixtures("often")
def test_a_process_without_progress_names_those_that_are_behind_and_stops_all_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heartbeat.jax, "process_count", lambda: 3)
    (tmp_path / "heartbeat_1.json").write_text(json.dumps({"time": 0, "step": 4, "stage": 1, "phase": "input"}))
    stopped = []
    with Heartbeat(epath.Path(tmp_path), 0.2 / 60, lambda: stopped.append(time.monotonic())) as alive:
        started = time.monotonic()
        while time.monotonic() < started + 0.5:
            alive.beat("train", 5, 1)
            time.sleep(0.01)
        assert stopped == []
        wait_for(lambda: stopped)
        time.sleep(0.5)
    assert len(stopped) == 1
    said = capsys.readouterr().err
    assert re.search(r"process 0 has made no progress for 0\.0\d+ minutes at step 5, training", said)
    assert (
        "; process 1 is at step 4, waiting for images; process 2 has given no sign of life; all processes stop" in said
    )


@pytest.mark.slow
def test_the_other_process_ends_and_names_the_one_that_is_late(tmp_path):
    with Children(
        "train", "--config=configs/smoke.py", f"--workdir={tmp_path / 'run'}", "--config.stall_minutes=0.7",
        phase="late", folder=tmp_path,
    ) as children:  # fmt: skip
        ended = children.ended()
    assert [code for code, *_ in ended] == [75, 75], ended
    said = "".join(err for _, _, err in ended)
    # Both may notice. The one that hangs is behind, and waits for images.
    first = (
        r"process 0 has made no progress for 0\.\d+ minutes at step \d+, training; process 1 is at step \d+, waiting"
    )
    second = r"process 1 has made no progress for 0\.\d+ minutes at step \d+, waiting for images; process 0 is at step"
    assert re.search(first, said) or re.search(second, said), said
    assert "; all processes stop" in said
    for _, _, err in ended:
        assert "the grace period of 10 s is over; the run is saved up to step 0" in err


def told(errors):
    """Returns the lines of the program. JAX must not have aborted it with a stack trace."""
    assert "***" not in errors
    return [line for line in errors.splitlines() if line.startswith("effnetv2 train: ")]


@pytest.mark.parametrize(
    ("phase", "number", "named"),
    [
        ("lost", signal.SIGKILL, "process 1 has given no sign of life for 12 s: it was killed or stopped, or"),
        pytest.param("lost", signal.SIGSTOP, "process 1 has given no sign of life for 12 s", marks=pytest.mark.slow),
        pytest.param(
            "failing",
            None,
            "process 1 has ended with an error, which it printed; all processes stop",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_first_process_ends_and_names_the_one_that_is_lost(tmp_path, phase, number, named):
    with Children(
        "train", "--config=configs/smoke.py", f"--workdir={tmp_path / 'run'}", "--config.steps=100000",
        phase=phase, folder=tmp_path,
    ) as children:  # fmt: skip
        children.wait_until((tmp_path / "WAITING").exists)
        if number:
            children.signal(1, number)
        _, err = children.processes[0].communicate(timeout=300)
        if not number:
            code, _, said = children.ended()[1]
            assert (code, told(said)) == (1, ["effnetv2 train: the disk of process 1 is gone"]), said
    assert children.processes[0].returncode == 75
    lines = told(err)
    assert len(lines) == 2, err
    assert lines[0].startswith(f"effnetv2 train: {named}")
    assert lines[1].endswith("; the run is saved up to step 0, and the same command resumes from there")
