"""Files that may come from anyone: what is checked before they are read."""

from __future__ import annotations

import stat
from pathlib import Path

from effnetv2_jax.byte_size import byte_size


def checked_size(path: Path, limit: int) -> int:
    """Returns a file's number of bytes.

    Raises:
      ValueError: if it is neither a regular file nor a link to one, or has more than `limit` bytes. A named pipe would
        be waited for without end, and a device such as /dev/zero never ends.
      OSError: if it does not exist or is a folder.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path} is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no regular file but a pipe, a socket or a device")
    if status.st_size > limit:
        raise ValueError(f"{path} has {byte_size(status.st_size)}, and the limit is {byte_size(limit)}")
    return status.st_size
