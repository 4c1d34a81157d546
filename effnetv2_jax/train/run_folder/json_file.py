"""The JSON files of a run folder."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from etils import epath

from effnetv2_jax.whole_file import write_whole

T = TypeVar("T", dict[str, Any], list[Any])


def write_json(path: epath.Path, content: Any) -> None:
    """Writes a value as JSON, whole or not at all.

    Raises:
      OSError: if it cannot be written.
    """
    write_whole(path, f"{json.dumps(content, indent=1)}\n".encode())


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
