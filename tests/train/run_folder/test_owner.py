"""The owner of a run folder: a second one is refused, and a killed one leaves the folder free."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from etils import epath
from fake_bucket import use_as_bucket
from train.run.processes import ROOT

from effnetv2_jax.train.run_folder import owner
from effnetv2_jax.train.run_folder.owner import OWNER, file_system, keeps_locks_to_itself, owned
from effnetv2_jax.train.run_folder.owner_record import owner_in

OWNING = """
import subprocess, sys
from etils import epath
from effnetv2_jax.train.run_folder.owner import owned

with owned(epath.Path(sys.argv[1])) as check:
    check()
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owning(tmp_path):
    """A process that owns `tmp_path / "run"` until its input ends, and the process id of a child of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNING, str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    child = int(process.stdout.readline())
    yield process, child
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_until_the_owner_is_killed(owning, tmp_path):
    """The lock ends with its owner, although a program that the owner started lives on."""
    process, child = owning
    folder = epath.Path(tmp_path / "run")
    with pytest.raises(ValueError, match=rf"in use by process {process.pid} on .* since 2.*--workdir"), owned(folder):
        pass
    os.kill(child, signal.SIGSTOP)  # it does not notice that its input ends
    process.send_signal(signal.SIGKILL)
    process.wait()
    with owned(folder) as check:
        check()
        assert json.loads((folder / OWNER).read_text())["pid"] == os.getpid()
        os.kill(child, 0)
    os.kill(child, signal.SIGKILL)


def test_the_owner_file_stays_when_the_owner_has_left(owning, tmp_path):
    process, _ = owning
    inode = (tmp_path / "run" / OWNER).stat().st_ino
    process.communicate(input="", timeout=60)
    assert process.returncode == 0
    with owned(epath.Path(tmp_path / "run")):
        pass
    assert (tmp_path / "run" / OWNER).stat().st_ino == inode


def test_one_process_owns_a_folder_once(tmp_path):
    folder = epath.Path(tmp_path)
    with owned(folder), pytest.raises(ValueError, match=f"in use by process {os.getpid()} "), owned(folder):
        pass
    with owned(folder):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_gets_a_lease(number, tmp_path, monkeypatch, leases):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with owned(epath.Path(tmp_path)):
        assert leases == [tmp_path / OWNER]


def test_another_error_of_locking_is_raised(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output"), owned(epath.Path(tmp_path)):
        pass


def test_a_bucket_and_a_mounted_bucket_get_a_lease(tmp_path, monkeypatch, leases):
    use_as_bucket(tmp_path / "bucket", monkeypatch)
    with owned(epath.Path("gs://bucket/run")):
        pass
    monkeypatch.setattr(owner, "keeps_locks_to_itself", lambda folder: folder == tmp_path)
    with owned(epath.Path(tmp_path)):
        pass
    assert list(map(str, leases)) == [f"gs://bucket/run/{OWNER}", str(tmp_path / OWNER)]


@pytest.fixture
def leases(monkeypatch):
    """The paths of the leases that are taken, which do nothing here."""
    taken = []

    class NoLease:
        def __init__(self, path, _):
            taken.append(path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def check(self):
            pass

    monkeypatch.setattr(owner, "Lease", NoLease)
    return taken


def test_the_type_of_a_file_system_is_read_from_the_mounts():
    mounts = """22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
40 28 0:45 / /data rw,nosuid - fuse.gcsfuse bucket rw,user_id=0
"""
    assert file_system(mounts, "0:45") == "fuse.gcsfuse"
    assert file_system(mounts, "98:0") == "ext3"
    assert file_system(mounts, "98:1") == ""
    assert not keeps_locks_to_itself(Path("/proc"))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_owner_file_names_no_process(content):
    assert owner_in(content) == "another process"
