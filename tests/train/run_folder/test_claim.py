"""The run folder: what a claim writes, what it refuses, and what a resumed run records."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import jax
import pytest
from etils import epath
from fake_bucket import use_as_bucket
from train.run.processes import ROOT

from effnetv2_jax.model.provenance import CARD
from effnetv2_jax.train.run_folder import lease, starts
from effnetv2_jax.train.run_folder.changes import ChangeRules
from effnetv2_jax.train.run_folder.claim import CONFIG, DATA, METRICS, RunIdentity, claimed
from effnetv2_jax.train.run_folder.lease import LeaseTimes, OwnershipLost
from effnetv2_jax.train.run_folder.owner import OWNER, owned
from effnetv2_jax.train.run_folder.starts import STARTS

RULES = ChangeRules(frozenset({"threads", "steps"}), frozenset({"rate"}), frozenset())
IDENTITY = RunIdentity(
    config={"rate": 0.1, "seed": 0, "threads": 0, "steps": 12, "remat": []},
    defaults={"rate": 1.0, "seed": 0, "threads": 0, "steps": 0, "remat": []},
    rules=RULES,
    data_origin="folder: 3 images",
    data_sizes="abc",
    teacher="",
    card={"variant": "b0"},
    stage_ends=(6, 12),
)


def changed(stage_ends=(6, 12), **config):
    return dataclasses.replace(IDENTITY, config=IDENTITY.config | config, stage_ends=stage_ends)


def start(folder, identity=IDENTITY, accepted=(), step=0):
    """Starts a run, lets it write a row of metrics, and returns the lines that it prints."""
    with claimed(str(folder), identity, accepted) as claim:
        news = claim.begin(step)
        claim.check()
        (claim.folder / METRICS).write_text("{}\n")
    return [*news.changes, *news.warnings]


def read(folder, name):
    return json.loads((folder / name).read_text())


def contents(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_new_run_writes_its_identity_and_its_start(tmp_path):
    assert start(tmp_path / "run") == []
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {CARD, CONFIG, DATA, STARTS, OWNER, METRICS}
    assert read(folder, CONFIG) == IDENTITY.config
    assert read(folder, DATA) == {"origin": "folder: 3 images", "sizes": "abc"}
    assert read(folder, CARD) == {"variant": "b0"}
    (record,) = read(folder, STARTS)
    assert (record["step"], record["stage_ends"], record["changes"]) == (0, [6, 12], {})
    assert {"Python", "effnetv2_jax", "jax", "jaxlib", "flax", "tensorflow-datasets"} <= record["versions"].keys()
    assert record["devices"]["number of devices"] == jax.device_count()


def test_a_run_in_a_bucket_is_claimed_with_a_lease_and_resumed(tmp_path, monkeypatch):
    use_as_bucket(tmp_path / "bucket", monkeypatch)
    monkeypatch.setattr(lease, "LeaseTimes", lambda: LeaseTimes(settling=0.0))
    for _ in range(2):
        with claimed("gs://bucket/run", IDENTITY) as claim:
            assert claim.begin(0) == ((), ())
            assert "token" in read(claim.folder, OWNER)
            (claim.folder / METRICS).write_text("{}\n")
        assert not (claim.folder / OWNER).exists()
    assert len(read(claim.folder, STARTS)) == 2


def test_a_start_without_changes_is_recorded_and_prints_nothing(tmp_path):
    start(tmp_path)
    assert start(tmp_path, step=5) == []
    assert [record["step"] for record in read(tmp_path, STARTS)] == [0, 5]


def test_changed_versions_and_devices_are_named(tmp_path, monkeypatch):
    start(tmp_path)
    monkeypatch.setattr(starts, "_versions", lambda: {"jax": "0.0.1"})
    monkeypatch.setattr(starts, "_devices", lambda: {"platform": "tpu"})
    (line,) = start(tmp_path)
    assert f"jax {jax.__version__} → 0.0.1" in line
    assert "platform cpu → tpu" in line
    assert "flax" in line
    assert start(tmp_path) == []


def test_free_fields_change_and_are_named_once(tmp_path):
    start(tmp_path)
    assert start(tmp_path, changed(threads=8)) == ["changed since the last start: threads: 0 → 8"]
    assert start(tmp_path, changed(threads=8)) == []
    assert read(tmp_path, CONFIG)["threads"] == 8
    assert [record["changes"] for record in read(tmp_path, STARTS)] == [{}, {"threads": [0, 8]}, {}]


def test_a_longer_run_names_its_new_stages(tmp_path):
    start(tmp_path)
    lines = start(tmp_path, changed((12, 24), steps=24), step=7)
    assert lines[0] == "changed since the last start: steps: 12 → 24"
    assert "24 steps instead of 12" in lines[1]
    assert "after the steps 12, 24 instead of 6, 12; it goes on in stage 1 instead of 2;" in lines[1]


def test_a_longer_run_of_one_stage_names_its_length_only(tmp_path):
    start(tmp_path, changed((5000,), steps=5000))
    _, line = start(tmp_path, changed((6000,), steps=6000), step=72)
    assert line.startswith("the run has 6,000 steps instead of 5,000; a cosine or linear")


def test_a_run_cannot_become_shorter_than_it_is(tmp_path):
    start(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="7 steps, more than the 6 that epochs, steps and min_steps give"):
        start(tmp_path, changed((3, 6), steps=6), step=7)
    assert {name: before[name] for name in before if name != OWNER} == {
        name: content for name, content in contents(tmp_path).items() if name != OWNER
    }
    assert len(start(tmp_path, changed((3, 7), steps=7), step=7)) == 2


def test_a_refused_start_changes_no_file(tmp_path):
    start(tmp_path)
    before = contents(tmp_path)
    for identity, accepted, message in (
        (changed(seed=1), (), "Changed: seed: 0 → 1"),
        (changed(rate=0.2), (), "--accept-changes rate"),
        (changed(rate=0.2), ("rats",), "unknown field 'rats'; did you mean rate"),
        (IDENTITY, ("rate",), "rate has not changed"),
        (dataclasses.replace(IDENTITY, data_origin="folder: 4 images"), (), "Then: folder: 3 images; now: folder: 4"),
        (dataclasses.replace(IDENTITY, data_sizes="abd"), (), "other data.*the sizes differ"),
    ):
        with pytest.raises(ValueError, match=message):
            start(tmp_path, identity, accepted)
        assert contents(tmp_path) == before


def test_a_change_on_request_is_recorded_and_the_same_command_can_be_repeated(tmp_path):
    start(tmp_path)
    assert start(tmp_path, changed(rate=0.2), ["rate"], 5) == ["changed since the last start: rate: 0.1 → 0.2"]
    assert start(tmp_path, changed(rate=0.2), ["rate"], 6) == []
    assert start(tmp_path, changed(rate=0.2), step=7) == []
    assert read(tmp_path, CONFIG)["rate"] == 0.2
    assert [(record["step"], record["changes"]) for record in read(tmp_path, STARTS)] == [
        (0, {}), (5, {"rate": [0.1, 0.2]}), (6, {}), (7, {}),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"Changed: rate: 0\.2 → 0\.1"):
        start(tmp_path, IDENTITY)


def test_a_new_folder_has_nothing_to_accept(tmp_path):
    with pytest.raises(ValueError, match=r"rate has not changed since the last start; .* accept: none"):
        start(tmp_path / "run", accepted=["rate"])
    assert not (tmp_path / "run").exists()


def test_a_field_that_an_older_version_lacked_had_its_default(tmp_path):
    start(tmp_path)
    config = read(tmp_path, CONFIG)
    del config["seed"]
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert start(tmp_path) == []
    assert read(tmp_path, CONFIG) == IDENTITY.config
    del config["rate"]
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"Changed: rate: 1\.0 → 0\.1"):
        start(tmp_path)


def test_sizes_that_were_unknown_are_recorded_later(tmp_path):
    start(tmp_path, dataclasses.replace(IDENTITY, data_sizes=""))
    start(tmp_path)
    assert read(tmp_path, DATA)["sizes"] == "abc"
    start(tmp_path, dataclasses.replace(IDENTITY, data_sizes=""))
    assert read(tmp_path, DATA)["sizes"] == "abc"


def test_a_run_that_has_not_trained_gives_way_to_another(tmp_path):
    with claimed(str(tmp_path), IDENTITY) as claim:
        claim.begin(0)
    start(tmp_path, changed(seed=1))
    assert read(tmp_path, CONFIG)["seed"] == 1
    assert len(read(tmp_path, STARTS)) == 1


def test_damaged_files_are_named(tmp_path):
    start(tmp_path)
    for name in (CONFIG, DATA, STARTS):
        sound = (tmp_path / name).read_text()
        (tmp_path / name).write_text(sound[:-10])
        with pytest.raises(ValueError, match=rf"{name} is damaged"):
            start(tmp_path)
        (tmp_path / name).write_text(sound)
    start(tmp_path)


def test_a_folder_that_another_process_writes_to_is_refused_and_not_changed(tmp_path):
    start(tmp_path)
    with owned(epath.Path(tmp_path)):
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=f"in use by process {os.getpid()} "):
            start(tmp_path)
        assert contents(tmp_path) == before


CLAIMING = """
import sys
from train.run_folder.test_claim import IDENTITY, claimed
while True:
    with claimed(sys.argv[1], IDENTITY) as claim:
        claim.begin(0)
        (claim.folder / "metrics.jsonl").write_text("{}\\n")
        print("claimed", flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_folder_that_starts_again(tmp_path):
    """A process that claims its folder over and over is killed, each time after another number of claims."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    for kill in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", CLAIMING, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(1 + 7 * kill):
            assert process.stdout.readline() == "claimed\n"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        known = len(read(tmp_path, STARTS))
        start(tmp_path)
        assert len(read(tmp_path, STARTS)) == known + 1


def test_a_claim_that_was_taken_over_is_lost(tmp_path, monkeypatch):
    use_as_bucket(tmp_path / "bucket", monkeypatch)
    # With this length, every check asks the file system.
    monkeypatch.setattr(lease, "LeaseTimes", lambda: LeaseTimes(settling=0.0, length=-1.0))
    with claimed("gs://bucket/run", IDENTITY) as claim:
        claim.check()
        (claim.folder / OWNER).write_text('{"host": "b", "pid": 7, "since": "now", "token": "other"}')
        with pytest.raises(OwnershipLost, match="process 7 on b since now has taken over gs://bucket/run"):
            claim.check()
