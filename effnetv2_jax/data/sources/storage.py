"""Files of a data set on a disk, in `gs://…`, or in a repository `hf://datasets/OWNER/NAME`."""

from __future__ import annotations

import io
import posixpath
from pathlib import Path
from typing import IO, Any, cast

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.paths import in_bucket

_HUB = "hf://"
_BUFFER = 1 << 20  # bytes that are asked of a bucket at once


def list_files(folder: str, suffix: str) -> list[str]:
    """Returns the paths of the files in a folder, and in the folders in it, whose names end in `suffix`; sorted."""
    patterns = [posixpath.join(folder, f"*{suffix}"), posixpath.join(folder, f"*/*{suffix}")]
    if not folder.startswith(_HUB):
        return sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern))
    return sorted(_HUB + path for pattern in patterns for path in _hub().glob(pattern.removeprefix(_HUB)))


def file_length(path: str) -> int:
    """Returns the length of a file in bytes."""
    if path.startswith(_HUB):
        return int(_hub().info(path.removeprefix(_HUB))["size"])
    return int(tf.io.gfile.stat(path).length)


def open_file(path: str) -> IO[bytes]:
    """Opens a file to read parts of it."""
    if path.startswith(_HUB):
        return cast("IO[bytes]", _hub().open(path.removeprefix(_HUB), "rb"))
    if in_bucket(path):
        return io.BufferedReader(_InBucket(path), _BUFFER)
    return Path(path).open("rb")


class _InBucket(io.RawIOBase):
    """An object in a bucket as a file of Python's own, which TensorFlow's is not quite."""

    def __init__(self, path: str) -> None:
        self._file = tf.io.gfile.GFile(path, "rb")
        self._length = self._file.size()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._length}[whence]
        self._file.seek(start + offset)
        return start + offset

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def _hub() -> Any:
    from huggingface_hub import HfFileSystem

    return HfFileSystem()
