"""Downloads one file by HTTPS: it appears whole and checked, or not at all.

pooch and `torch.hub` download files with checksums too, but begin anew after a cut connection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import rich.console
import rich.progress

from effnetv2_jax.byte_size import byte_size
from effnetv2_jax.pretrained.checksum import check_checksum, google_checksum
from effnetv2_jax.version import __version__

TRIES = 5
"""Attempts in a row that bring no byte, after which a download fails."""

MAX_BYTES = 16 << 30
"""Larger files are not downloaded; that of XL has 0.9 GB."""

_BLOCK = 1 << 18
_SECONDS = 30.0  # without a byte, after which an attempt ends
_LONGEST_PAUSE = 16.0
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
_REASONS = {
    401: (PermissionError, "the server asks for credentials (401)"),
    403: (PermissionError, "the server refuses access (403)"),
    404: (FileNotFoundError, "the server has no such file (404)"),
    410: (FileNotFoundError, "the server no longer has the file (410)"),
}


class _AgainError(Exception):
    """An attempt failed in a way that the next one may not."""


@dataclasses.dataclass
class _Partial:
    """The part of a file that has been downloaded, and the version of the file that it belongs to.

    Attributes:
      path: the file with the part.
      total: bytes of the whole file, once a server has said it.
      google: the checksum that Google Cloud Storage states; "" for none.
    """

    path: Path
    total: int | None = None
    google: str = ""

    @property
    def version_file(self) -> Path:
        return self.path.with_name(f"{self.path.name}.etag")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str:
        """The ETag of the file that the part belongs to; "" if there is no part or none that can be continued."""
        return self.version_file.read_text() if self.version_file.exists() and self.path.exists() else ""

    def begin(self, version: str) -> None:
        """Empties the part, for a file of this version."""
        self.path.write_bytes(b"")
        self.version_file.write_text(version)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.version_file.unlink(missing_ok=True)


def download(url: str, path: Path, *, checksum: str = "", pause: float = 1.0) -> None:
    """Downloads a file unless it is there. What was downloaded before a cut, also by another process, is kept.

    Args:
      url: its address.
      path: where it appears. The folder is made.
      checksum: its checksum as `check_checksum` takes it; "" checks only its size and what Google Cloud Storage states.
      pause: seconds before the second attempt; each further pause is twice as long.

    Raises:
      OSError: if the server has no such file, refuses it or cannot be reached, the checksum is wrong, or the file
        cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Partial(path.with_name(f".{path.name}.part"))
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return
        with _progress(path.name) as progress:
            _fetch(url, part, progress, pause)
        for expected in filter(None, (checksum, part.google)):
            try:
                check_checksum(part.path, expected)
            except ValueError as error:
                part.remove()
                raise OSError(f"{url} is not the file that its publisher describes: {error}") from error
        part.version_file.unlink()
        with part.path.open("rb") as file:
            os.fsync(file.fileno())
        part.path.replace(path)


def _fetch(url: str, part: _Partial, progress: _Bar, pause: float) -> None:
    """Downloads until the part is the whole file."""
    failures = 0
    while True:
        before = part.size
        try:
            _attempt(url, part, progress)
            return
        except _AgainError as error:
            failures = failures + 1 if part.size <= before else 1
            if failures == TRIES:
                raise ConnectionError(f"{url} cannot be downloaded: {error}") from error
        time.sleep(min(pause * 2 ** (failures - 1), _LONGEST_PAUSE))


def _attempt(url: str, part: _Partial, progress: _Bar) -> None:
    """Makes one request, and appends what it brings to the part.

    Raises:
      _AgainError: if the connection fails or ends before the file does.
      OSError: for any other answer, and if the part cannot be written.
    """
    headers = {"User-Agent": f"effnetv2_jax/{__version__}", "Accept-Encoding": "identity"}
    if part.size and (version := part.version):
        headers |= {"Range": f"bytes={part.size}-", "If-Range": version}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and part.size:  # the part is longer than the file
            part.remove()
        if error.code in (416, *_TEMPORARY):
            raise _AgainError(f"the server answers {error.code} {error.reason}") from error
        kind, reason = _REASONS.get(error.code, (OSError, f"the server answers {error.code} {error.reason}"))
        raise kind(f"{url}: {reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _AgainError(str(getattr(error, "reason", error)) or type(error).__name__) from error
    with contextlib.closing(response):
        _begin(url, response, part)
        progress.start(part.size, part.total)
        with part.path.open("ab") as file:
            for block in _blocks(response):
                file.write(block)
                progress.advance(len(block))
                if part.size > MAX_BYTES:
                    raise OSError(f"{url} has more than {byte_size(MAX_BYTES)}")
    if part.total is not None and part.size < part.total:
        raise _AgainError(f"the connection ended after {part.size:,} of {part.total:,} bytes")
    if part.total is not None and part.size > part.total:
        part.remove()
        raise _AgainError(f"the server sent more than the {part.total:,} bytes that it announced")


def _begin(url: str, response: Any, part: _Partial) -> None:
    """Checks the answer's header, and empties the part unless the answer continues it."""
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise OSError(f"{url} leads to {response.url}, which is not encrypted")
    headers: Mapping[str, str] = response.headers
    length = headers.get("Content-Length")
    if response.status == 206:
        start, _, total = (headers.get("Content-Range") or "").removeprefix("bytes ").partition("/")
        if start.partition("-")[0] != str(part.size) or not total.isdigit():
            part.remove()
            raise _AgainError("the server continued the file at another place than was asked for")
        part.total = int(total)
    else:
        version = headers.get("ETag") or ""
        part.begin("" if version.startswith("W/") else version)
        part.total = int(length) if length and length.isdigit() else None
    part.google = google_checksum(headers.get("x-goog-hash") or "") or part.google
    if part.total is not None and part.total > MAX_BYTES:
        raise OSError(f"{url} has {byte_size(part.total)}, and the limit is {byte_size(MAX_BYTES)}")


def _blocks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _AgainError(str(error) or type(error).__name__) from error
        if not block:
            return
        yield block


class _Bar:
    """A bar of bytes on the terminal, or nothing if the standard error is none."""

    def __init__(self, progress: rich.progress.Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None)

    def start(self, done: int, total: int | None) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)


@contextlib.contextmanager
def _progress(name: str) -> Iterator[_Bar]:
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TransferSpeedColumn(),
    )
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        yield _Bar(progress, name)
