"""Trackers get the metrics of a run, go on where a run resumes, and never end one."""

import json
import os
import struct
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from etils import epath

from effnetv2_jax.cli.missing_extra import missing_extra
from effnetv2_jax.train.report.tracker import TRACKER, Tracker, require_tracker

ROOT = Path(__file__).parent.parent.parent.parent


class Fake(types.ModuleType):
    """What W&B and Trackio have in common. It fails at a step."""

    def __init__(self, name, fails_at=None):
        super().__init__(name)
        self.started, self.rows, self.finished, self.fails_at = [], [], 0, fails_at

    def init(self, **given):
        self.started.append(given)

    def log(self, values, *, step):
        if step == self.fails_at:
            raise ConnectionError("no route\nto the host")
        self.rows.append((step, values))

    def finish(self):
        self.finished += 1


@pytest.fixture
def fake(monkeypatch):
    def make(name, **fields):
        module = Fake(name, **fields)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


def tracker(name, folder, warnings):
    return Tracker(name, "project", epath.Path(folder), {"seed": 0}, warnings.append)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_that_resumes_goes_on_in_the_same_record(fake, tmp_path, name):
    module, warnings = fake(name), []
    for step in (1, 2):
        one = tracker(name, tmp_path, warnings)
        one.log(step, {"train/loss": 1.5})
        one.close()
    assert module.rows == [(1, {"train/loss": 1.5}), (2, {"train/loss": 1.5})]
    assert module.finished == 2
    first, second = module.started
    assert first == second
    assert first["project"] == "project"
    assert first["resume"] == "allow"
    assert first["config"] == {"seed": 0}
    assert first["name"].startswith(f"{tmp_path.name}-")
    assert first.get("id") == (first["name"] if name == "wandb" else None)
    assert warnings == []


def test_two_runs_have_two_records(fake, tmp_path):
    module = fake("wandb")
    for folder in ("a", "b"):
        (tmp_path / folder / "run").mkdir(parents=True)
        tracker("wandb", tmp_path / folder / "run", [])
    assert module.started[0]["id"] != module.started[1]["id"]


def test_a_tracker_that_fails_is_left_out_with_one_warning(fake, tmp_path):
    module, warnings = fake("wandb", fails_at=2), []
    one = tracker("wandb", tmp_path, warnings)
    for step in (1, 2, 3):
        one.log(step, {"train/loss": 1.0})
    one.close()
    assert [step for step, _ in module.rows] == [1]
    assert warnings == ["wandb gets no more metrics of this run: no route"]


def test_a_tracker_that_is_not_installed_is_named_with_its_extra():
    with pytest.raises(ModuleNotFoundError) as found:
        require_tracker("trackio")
    assert missing_extra(found.value, "train") == (
        "training needs the extra 'trackio': pip install 'effnetv2_jax[trackio]'"
    )


ROWS = [(1, {"train/loss": 1.5, "train/stage": 1}), (2, {"raw/top1": 12.5})]
TRACKED = f"""
import sys
from etils import epath
from effnetv2_jax.train.report.tracker import Tracker

one = Tracker("wandb", "project", epath.Path(sys.argv[1]), {{"seed": 0}}, print)
for step, values in {ROWS!r}:
    one.log(step, values)
one.close()
"""


def test_weights_and_biases_keeps_the_rows(tmp_path):
    """The real package writes into a folder, without a network, in a process of its own: it starts threads."""
    settings = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", TRACKED, str(tmp_path)]
    done = subprocess.run(words, env=os.environ | settings, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done
    run = json.loads((tmp_path / TRACKER).read_text())["run"]
    (record,) = (tmp_path / "wandb").glob(f"offline-run-*-{run}/run-{run}.wandb")
    deadline = time.monotonic() + 60
    while recorded(record) != dict(ROWS) and time.monotonic() < deadline:  # another process of W&B's writes it
        time.sleep(0.1)
    assert recorded(record) == dict(ROWS)


def recorded(path):
    """Returns step → the row in a small record of W&B, without the values that it adds itself.

    The file is a log of LevelDB of one block, after seven bytes of its own: each entry has four bytes of checksum, two
    of length and one of its kind before it.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    content, start, found = path.read_bytes(), 7, {}
    assert len(content) < 32768
    while start < len(content):
        length, _ = struct.unpack_from("<HB", content, start + 4)
        record = Record.FromString(content[start + 7 : start + 7 + length])
        start += 7 + length
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            row = {key: json.loads(value) for key, value in items.items() if not key.startswith("_")}
            found[record.history.step.num] = row
    return found
