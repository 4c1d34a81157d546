"""Signs of life: the file for watchdogs, and the end of processes that wait for one that hangs."""

import json
import re
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
    deadline = time.monotonic() + 60
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


def test_the_other_process_ends_and_names_the_one_that_is_late(tmp_path):
    with Children(
        "train", "--config=configs/smoke.py", f"--workdir={tmp_path / 'run'}", "--config.stall_minutes=0.7",
        phase="late", folder=tmp_path,
    ) as children:  # fmt: skip
        ended = children.ended(400)
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
