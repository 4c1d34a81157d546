"""JSON that may come from anyone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

MAX_JSON_BYTES = 8 << 20
"""The 21,841 class names of ImageNet-21k take 0.6 MB. Parsing takes up to 25 times the memory of the text."""


def parse_json(text: str | bytes) -> Any:
    """Returns the value that a text describes.

    Raises:
      ValueError: if the text is not JSON, is longer than `MAX_JSON_BYTES`, is nested too deeply, or has an object with
        the same key twice, of which readers may take either.
    """
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"it has {len(text):,} bytes, and the limit is {MAX_JSON_BYTES:,}")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)[:100]!r} occurs twice")
    return found
