"""Writes files and folders so that they appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path next to `path`, at which the caller makes a file or a folder.

    Leaving the context without an error moves it to `path`. In an existing folder, only the files with the same names
    are replaced; a folder with folders in it needs a new path. After an error, `path` is as it was before.

    Raises:
      OSError: if the location cannot be written to, a folder would replace a file, or a file would replace a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        made = sorted(temporary.iterdir()) if temporary.is_dir() else [temporary]
        for file in temporary.rglob("*") if temporary.is_dir() else made:
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        if temporary.is_dir() and path.is_dir():
            for file in made:
                file.replace(path / file.name)
        else:
            temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
