"""Growing files: what cannot be written yet is kept and written later."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from etils import epath

from effnetv2_jax.paths import in_bucket
from effnetv2_jax.whole_file import as_os_error

_SECONDS_BETWEEN_UPLOADS = 30.0
_SHARE_OF_UPLOADS = 0.05  # of the time at most; an upload takes longer as the file grows


class GrowingFile:
    """A file that grows at its end, and survives a disk that is full or away for a while.

    A local file never has a gap or a repetition: what a failed write has left at its end is overwritten by the next
    one, and a file that has become shorter meanwhile is written anew. An object in a bucket cannot grow, so it is
    uploaded whole, but not often. All of its content stays in memory.
    """

    def __init__(self, path: epath.Path, warn: Callable[[str], None], content: bytes = b"") -> None:
        """Prepares a file; nothing is written yet.

        Args:
          path: the file; its folder is created if only that folder is missing.
          warn: shows a warning; it is called when writing begins to fail, and when it works again.
          content: what the file contains already.
        """
        self._path = path
        self._warn = warn
        self._content = bytearray(content)
        self._written = len(content)
        self._failing = False
        self._next_upload = 0.0
        self._disk = _disk(path)

    @property
    def unwritten(self) -> bytes:
        """The data that is not written yet."""
        return bytes(self._content[self._written :])

    def add(self, data: bytes) -> None:
        """Adds data in memory."""
        self._content += data

    def write(self) -> None:
        """Tries to write what is not written yet. After a failure, the next call tries again.

        Raises:
          OSError: if it fails.
        """
        if self._written == len(self._content):
            return
        try:
            with as_os_error(self._path):
                self._upload() if in_bucket(self._path) else self._extend()
        except OSError as error:
            if not self._failing:
                self._warn(f"{error}; the run goes on, and tries again")
            self._failing = True
            raise
        if self._failing:
            self._warn(f"{self._path} is written again")
        self._failing = False

    def is_due(self) -> bool:
        """Returns whether it is time to write: always for a local file, but not for an object uploaded just before."""
        return time.monotonic() >= self._next_upload

    def _extend(self) -> None:
        path, end = Path(self._path), len(self._content)
        if _disk(self._path) != self._disk:
            raise OSError(f"{path.parent} is on another disk than at the start of the run, so its own was unmounted")
        path.parent.mkdir(exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            start = self._written if file.seek(0, os.SEEK_END) >= self._written else 0
            file.seek(start)
            file.write(self._content[start:end])
            file.truncate()
        self._written = end

    def _upload(self) -> None:
        started, end = time.monotonic(), len(self._content)
        try:
            if not self._written:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(bytes(self._content[:end]))
        finally:
            now = time.monotonic()
            self._next_upload = now + max(_SECONDS_BETWEEN_UPLOADS, (now - started) / _SHARE_OF_UPLOADS)
        self._written = end


def _disk(path: epath.Path) -> int:
    """Returns the number of the disk that a file lies on or would be made on, or 0 for one in a bucket."""
    return 0 if in_bucket(path) else next(each for each in Path(path).parents if each.exists()).stat().st_dev
