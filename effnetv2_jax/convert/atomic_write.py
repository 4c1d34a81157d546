"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` at which to make a file or a folder of files.

    Leaving the context without an error puts it in place of what `path` was; in a folder that is there already, the
    files of the same names are replaced and the others stay. With an error, `path` is as it was before.

    Raises:
      OSError: if the place cannot be written to, or a folder is to replace a file or a file a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        made = sorted(temporary.iterdir()) if temporary.is_dir() else [temporary]
        for file in made:
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
