"""The owner of a run folder: the one process that may write into it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from etils import epath

from effnetv2_jax.paths import in_bucket
from effnetv2_jax.train.run_folder.lease import FolderInUse, Lease, LeaseTimes
from effnetv2_jax.train.run_folder.owner_record import record_of_this_process

OWNER = "owner.json"
"""Name of the owner file in a run folder: who writes into the folder, or did so last."""

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_MOUNTS = Path("/proc/self/mountinfo")


@contextlib.contextmanager
def owned(folder: epath.Path, times: LeaseTimes | None = None) -> Iterator[Callable[[], None]]:
    """A context in which this process is the only one that may write into a run folder, which is made if needed.

    On a local file system, the process locks a file. The operating system removes the lock when the process ends,
    whatever ends it. The file stays. In a bucket, and on a file system without locks, the process takes a lease instead
    (see `Lease`): after it was killed, the next one waits for up to a minute.

    Args:
      folder: a local folder or `gs://…`.
      times: the durations of a lease.

    Yields:
      A function that raises `OwnershipLost` if this process must no longer write. It is fast enough for every step.

    Raises:
      FolderInUse: if another process owns the folder; the message says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / OWNER
    file = None if in_bucket(folder) or keeps_locks_to_itself(Path(folder)) else _locked(path)
    if file is None:
        with Lease(path, times) as lease:
            yield lease.check
    else:
        with file:  # closing the file removes the lock
            yield lambda: None


def _locked(path: epath.Path) -> IO[str] | None:
    """Returns the owner file, open and locked, or None if the file system has no locks.

    Programs that this process starts do not inherit the lock, since Python closes its files for them.

    Raises:
      FolderInUse: if another process has locked it.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(Path(path).open("a+", encoding="utf-8"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise FolderInUse(path.parent, file.read()) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return None
        file.truncate(0)
        file.write(record_of_this_process())
        file.flush()
        stack.pop_all()
        return file


def keeps_locks_to_itself(folder: Path) -> bool:
    """Returns whether other machines do not see the locks of a folder's file system, as with gcsfuse."""
    device = folder.stat().st_dev
    mounts = _MOUNTS.read_text(errors="replace") if _MOUNTS.exists() else ""
    return file_system(mounts, f"{os.major(device)}:{os.minor(device)}").startswith("fuse")


def file_system(mounts: str, device: str) -> str:
    """Returns the type of a device's file system, or "" if it is unknown.

    Args:
      mounts: the content of Linux's `/proc/self/mountinfo`.
      device: its major and minor number, as in `259:1`.
    """
    for line in mounts.splitlines():
        mount, _, rest = line.partition(" - ")
        if mount.split()[2] == device:
            return rest.split()[0]
    return ""
