"""Saving: what is kept, what is tried again, and what a failure leaves."""

import concurrent.futures
import contextlib
import os
import shutil
import subprocess
import threading

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from effnetv2_jax.train.checkpoint import saver as saver_module
from effnetv2_jax.train.checkpoint.checkpoints import Checkpoints
from effnetv2_jax.train.checkpoint.config import CheckpointConfig
from effnetv2_jax.train.checkpoint.saver import Saver
from effnetv2_jax.train.checkpoint.storage import check_free_space

STATE = {"params": {"kernel": jnp.arange(3.0)}}


def make_saver(folder, warnings=None, check=lambda arrays, step: None, **config):
    said = warnings if warnings is not None else []
    return Saver(Checkpoints(epath.Path(folder)), CheckpointConfig(**config), check=check, warn=said.append)


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(saver_module, "_FIRST_PAUSE_SECONDS", 0.0)


def test_the_latest_and_the_best_checkpoints_are_kept(tmp_path):
    with make_saver(tmp_path, keep=2) as saver:
        for step, score in enumerate([1.0, 9.0, 2.0, 9.0, 3.0, 4.0]):
            saver.save(step, STATE)
            saver.wait()
            saver.scores[step] = score
        saver.save(6, STATE)
    assert Checkpoints(epath.Path(tmp_path)).steps == [3, 5, 6]
    assert saver.written_step == 6


def test_what_killed_processes_have_left_is_removed_by_the_next_saver_only(tmp_path):
    for name in ("2.orbax-checkpoint-tmp", "1.deleting"):
        (tmp_path / name / "state").mkdir(parents=True)
    Checkpoints(epath.Path(tmp_path)).steps  # noqa: B018
    assert len(list(tmp_path.iterdir())) == 2
    with make_saver(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_can_be_deleted_while_it_is_written(tmp_path):
    with make_saver(tmp_path) as saver:
        saver.save(1, STATE)
        saver.save(2, STATE)
        assert saver.delete(2)
        assert not saver.delete(2)
    assert Checkpoints(epath.Path(tmp_path)).steps == [1]


def test_saving_returns_before_the_state_is_checked_and_written(tmp_path):
    may_go_on, checked = threading.Event(), []

    def check(arrays, step):
        assert may_go_on.wait(60)
        checked.append((step, sorted(arrays)))

    with make_saver(tmp_path, check=check) as saver:
        saver.save(1, STATE)
        saver.poll()
        assert checked == []
        may_go_on.set()
        saver.wait()
    assert checked == [(1, ["params/kernel"])]


def test_a_state_that_must_not_be_saved_is_reported_by_the_next_poll_and_not_written(tmp_path):
    def check(_, step):
        raise FloatingPointError(f"step {step}")

    saver = make_saver(tmp_path, check=check)
    saver.save(1, STATE)
    concurrent.futures.wait([saver._pending])
    with pytest.raises(FloatingPointError, match="step 1"):
        saver.poll()
    saver.poll()  # an error is reported once
    assert Checkpoints(epath.Path(tmp_path)).steps == []


@pytest.mark.usefixtures("no_pause")
def test_a_save_is_tried_again_while_training_goes_on(tmp_path, monkeypatch):
    failures, warnings, write = [OSError("No space left on device")] * 3, [], saver_module.write

    def sometimes(path, step, tree):
        if failures:
            raise failures.pop()
        write(path, step, tree)

    monkeypatch.setattr(saver_module, "write", sometimes)
    with make_saver(tmp_path, warnings, tries=4) as saver:
        saver.save(8, STATE)
        saver.wait()
    assert Checkpoints(epath.Path(tmp_path)).steps == [8]
    assert len(warnings) == 3
    assert "step 8 could not be saved (try 3 of 4; training goes on): No space left on device" in warnings[-1]


@pytest.mark.usefixtures("no_pause")
def test_the_last_failure_is_an_error_in_one_line_and_leaves_the_older_checkpoints_whole(tmp_path):
    folder = tmp_path / "checkpoints"
    saver = make_saver(folder, tries=2)
    saver.save(1, STATE)
    saver.wait()
    moved = folder.rename(tmp_path / "unmounted")
    folder.write_text("a file in place of the folder")
    saver.save(2, STATE)
    with pytest.raises(
        OSError, match=r"^the checkpoint of step 2 could not be saved in 2 tries: [^\n]*Not a directory"
    ):
        saver.wait()
    assert Checkpoints(epath.Path(moved)).verify().step == 1


@pytest.mark.usefixtures("no_pause")
def test_a_folder_that_is_gone_is_not_made_anew(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    saver = make_saver(folder, tries=2)
    saver.save(1, STATE)
    saver.wait()
    moved = folder.parent.rename(tmp_path / "moved") / "checkpoints"
    saver.save(2, STATE)
    with pytest.raises(OSError, match=rf"^the checkpoint of step 2 could not be saved in 2 tries: .*{folder}"):
        saver.wait()
    assert not folder.parent.exists()
    assert Checkpoints(epath.Path(moved)).verify().step == 1


@pytest.fixture
def mount(tmp_path):
    """A mounted disk of its own."""
    folder = tmp_path / "mount"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk, and not everywhere")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@pytest.mark.usefixtures("no_pause")
def test_nothing_is_written_where_a_disk_was_unmounted(mount):
    warnings = []
    saver = make_saver(mount / "checkpoints", warnings, tries=2)
    saver.save(1, STATE)
    saver.wait()
    subprocess.run(["umount", "-l", str(mount)], check=True)
    (mount / "checkpoints").mkdir()
    saver.save(2, STATE)
    with pytest.raises(OSError, match=r"step 2 could not be saved in 2 tries: .*checkpoints is on another disk"):
        saver.wait()
    assert len(warnings) == 1
    assert list((mount / "checkpoints").iterdir()) == []


@pytest.mark.usefixtures("no_pause")
def test_a_full_disk_ends_in_an_error_and_leaves_the_older_checkpoint_whole(mount):
    folder, large = mount / "checkpoints", {"params": {"kernel": jnp.asarray(np.random.default_rng(0).random(1 << 18))}}
    saver = make_saver(folder, tries=2)
    saver.save(1, large)
    saver.wait()
    fill = mount / "fill"
    with fill.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    saver.save(2, large)
    with pytest.raises(OSError, match=r"^the checkpoint of step 2 could not be saved in 2 tries: [^\n]*space"):
        saver.wait()
    assert Checkpoints(epath.Path(folder)).verify().step == 1
    fill.unlink()
    saver.save(3, large)
    saver.wait()
    assert Checkpoints(epath.Path(folder)).verify().step == 3


@pytest.mark.usefixtures("no_pause")
def test_a_disk_that_becomes_read_only_ends_in_an_error(mount):
    saver = make_saver(mount / "checkpoints", tries=2)
    saver.save(1, STATE)
    saver.wait()
    subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
    saver.save(2, STATE)
    with pytest.raises(OSError, match=r"step 2 could not be saved in 2 tries: [^\n]*[Rr]ead-only"):
        saver.wait()
    assert Checkpoints(epath.Path(mount / "checkpoints")).verify().step == 1


def test_leaving_does_not_wait_for_further_tries(tmp_path, monkeypatch):
    monkeypatch.setattr(saver_module, "_FIRST_PAUSE_SECONDS", 1e6)
    tried = threading.Event()

    def fail(*_):
        tried.set()
        raise OSError("read-only file system")

    monkeypatch.setattr(saver_module, "write", fail)

    def leave_once_tried():
        with make_saver(tmp_path) as saver:
            saver.save(1, STATE)
            assert tried.wait(60)

    with pytest.raises(OSError, match=r"in [12] tr.*: read-only"):
        leave_once_tried()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=str(tmp_path)):
        make_saver(tmp_path / "checkpoints")


def test_too_little_space_is_refused_with_the_numbers(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    folder = epath.Path(tmp_path / "not" / "yet")
    check_free_space(folder, free // 100, 3, [])
    with pytest.raises(OSError, match=r"of free space, but 5 more checkpoints of .* need .* checkpoint\.keep, now 3"):
        check_free_space(folder, free // 4, 3, [])
    check_free_space(folder, free // 4, 3, [1, 2, 3, 4])
    check_free_space(epath.Path("gs://bucket/run"), free, 3, [])
