"""Small files of a run folder, which appear complete or not at all."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any, TypeVar

from etils import epath

T = TypeVar("T", dict[str, Any], list[Any])


def write_json(path: epath.Path, content: Any) -> None:
    """Writes a value as JSON."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: epath.Path, kind: type[T]) -> T:
    """Returns the object or the list in a JSON file.

    Raises:
      ValueError: if the file is damaged or holds something else; the message names it.
    """
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} is damaged: it must hold a {kind.__name__}, and it holds {str(content)[:50]!r}")
    return content


def write_text(path: epath.Path, text: str) -> None:
    """Replaces a file. A process that is killed meanwhile leaves the old file or the new one, never a part of it."""
    if "://" in str(path):  # a bucket shows an object once it is complete
        path.write_text(text)
        return
    temporary = Path(path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"))
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
