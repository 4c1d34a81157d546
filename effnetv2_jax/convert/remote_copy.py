"""Temporary local copies of remote files, for readers that need local ones."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from etils import epath


@contextlib.contextmanager
def local_copy(path: epath.Path, files: Sequence[epath.Path]) -> Iterator[Path]:
    """Copies `files` into a temporary folder and yields the local equivalent of `path`.

    Args:
      path: a remote file, a folder, or a prefix of the names of files.
      files: the remote files that reading `path` needs; all are in one folder.

    Raises:
      OSError: if a file cannot be copied.
    """
    with tempfile.TemporaryDirectory(prefix="effnetv2_") as folder:
        for file in files:
            file.copy(Path(folder) / file.name)
        yield Path(folder) if path.is_dir() else Path(folder) / path.name
