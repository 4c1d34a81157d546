"""Files of labels that a user has, such as the ReaL labels of ImageNet's validation images."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from effnetv2_jax.untrusted_json import parse_json

Labels = Sequence[Sequence[str]] | Mapping[str, Sequence[str]]
"""The labels of each image: in the order of the file names, or by file name. A label is a class's name or number."""

_MAX_BYTES = 256 << 20


def read_labels(path: epath.PathLike) -> Labels:
    """Reads a file of labels. An image may have several labels, or none.

    The forms are:
      - `.json`, a list with an entry for each image in the order of the file names, as in `real.json` of ReaL; an entry
        is a label or a list of labels;
      - `.json`, an object of file names with such entries;
      - text, a label or several on each line, in the order of the file names;
      - text or CSV, on each line a file name and its labels, separated by blanks, commas or tabs.

    Raises:
      ValueError: if the file is malformed; the message names the line.
      OSError: if it cannot be read.
    """
    file = epath.Path(path).expanduser()
    content = file.read_bytes()
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{path} has {len(content):,} bytes, and the limit is {_MAX_BYTES:,}")
    try:
        return _json_labels(parse_json(content)) if file.suffix == ".json" else _text_labels(content.decode())
    except ValueError as error:  # UnicodeDecodeError is one
        raise ValueError(f"{path} is not a file of labels: {error}") from error


def labels_of(paths: Sequence[str], labels: Labels) -> dict[str, tuple[str, ...]]:
    """Returns path → labels for images, whose paths are sorted by file name.

    Raises:
      ValueError: if there are other numbers of images and labels, or an image has no entry.
    """
    names = [posixpath.basename(path) for path in paths]
    if isinstance(labels, Mapping):
        missing = [path for path, name in zip(paths, names, strict=True) if path not in labels and name not in labels]
        if missing:
            raise ValueError(f"there are no labels of {len(missing):,} of {len(paths):,} images, such as {missing[0]}")
        found = (labels.get(path, labels.get(name, ())) for path, name in zip(paths, names, strict=True))
        return {path: tuple(row) for path, row in zip(paths, found, strict=True)}
    if len(labels) != len(paths):
        raise ValueError(f"there are {len(paths):,} images, and labels for {len(labels):,}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"labels in the order of file names need different file names, and {twice} occurs twice")
    return {path: tuple(row) for path, row in zip(paths, labels, strict=True)}


def _json_labels(content: Any) -> Labels:
    if isinstance(content, dict):
        return {str(name): _row(entry) for name, entry in content.items()}
    if isinstance(content, list):
        return [_row(entry) for entry in content]
    raise ValueError("it must contain a list, or an object of file names")


def _row(entry: Any) -> tuple[str, ...]:
    labels = entry if isinstance(entry, list) else [entry]
    for label in labels:
        if not isinstance(label, (int, str)) or isinstance(label, bool):
            raise ValueError(f"{label!r} is neither a class's number nor its name")
    return tuple(map(str, labels))


def _text_labels(text: str) -> Labels:
    rows = [line.replace(",", " ").split() for line in text.splitlines()]
    while rows and not rows[-1]:
        rows.pop()
    named = [bool(row) and "." in row[0] for row in rows]
    if not any(named):
        return rows
    rows, named = (rows[1:], named[1:]) if not named[0] else (rows, named)  # without the line of titles
    if not all(named):
        raise ValueError(f"some lines begin with a file name, but not {' '.join(rows[named.index(False)])!r}")
    return {row[0]: row[1:] for row in rows}
