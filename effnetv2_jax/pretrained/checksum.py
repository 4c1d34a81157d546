"""Checksums of downloaded files, as their publishers state them."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import google_crc32c

_BLOCK = 1 << 20


def check_checksum(file: Path, expected: str) -> None:
    """Compares a file with a checksum.

    Args:
      file: the file.
      expected: `sha256:` with at least the first eight digits of the digest, `md5:` with all digits, or `crc32c:` with
        the base64 text that Google Cloud Storage gives.

    Raises:
      ValueError: if they differ; the message has both.
    """
    kind, _, digits = expected.partition(":")
    found = _crc32c(file) if kind == "crc32c" else _digest(file, kind)
    if not found.startswith(digits):
        raise ValueError(f"its {kind} is {found[: len(digits)]} instead of {digits}")


def _digest(file: Path, kind: str) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, kind).hexdigest()


def _crc32c(file: Path) -> str:
    checksum = google_crc32c.Checksum()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            checksum.update(block)
    return base64.b64encode(checksum.digest()).decode()


def google_checksum(header: str) -> str:
    """Returns the checksum in Google Cloud Storage's header `x-goog-hash`, such as `crc32c:n03x6A==`; "" if none."""
    parts = (part.strip().partition("=") for part in header.split(","))
    return next((f"crc32c:{value}" for name, _, value in parts if name == "crc32c"), "")
