"""Unpacks the one checkpoint in a tar archive. The archive may come from anyone, so everything in it is checked."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from effnetv2_jax.convert.formats.tensor_file import MAX_WEIGHT_BYTES
from effnetv2_jax.regular_file import checked_size

_SUFFIXES = (".tgz", ".tar.gz", ".tar")
_MAX_MEMBERS = 64  # the official archives have six
# Bytes that tarfile reads before it returns a member: its header, long names and attributes, and what tarfile reads
# ahead. It keeps them in memory and matches them with regular expressions that take quadratic time in old Pythons.
_MAX_HEADER = 32 << 10
_MAX_RATIO = 50  # weights hardly compress
_SPARE = 16 << 20  # bytes that a small archive may unpack to, whatever its ratio
_BLOCK = 1 << 20
_PART = re.compile(r"(?P<prefix>.+)\.(?P<part>index|data-[0-9]{5}-of-[0-9]{5})$")
_NAME = "checkpoint"

# The exceptions that tarfile and gzip raise for damaged archives.
_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError, RecursionError)


class _RefusedError(ValueError):
    """An intact archive that is not accepted."""


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive."""
    return path.name.endswith(_SUFFIXES)


def copy_checkpoint(path: Path, folder: Path) -> Path:
    """Copies the files of the archive's one checkpoint into `folder` under fixed names and returns their prefix.

    Members are streamed in order. Only those of the checkpoint are written, and no name from the archive becomes a
    path. The whole archive is read, so that gzip's checksum is verified.

    Raises:
      ValueError: for a damaged or truncated archive, a member that is a link, a device or sparse, a name that points
        outside of the archive, too many members or bytes, or if there is no checkpoint or more than one.
    """
    limit = min(MAX_WEIGHT_BYTES, _MAX_RATIO * checked_size(path, MAX_WEIGHT_BYTES) + _SPARE)
    copied: dict[str, str] = {}
    try:
        with path.open("rb") as raw, _Limited(raw, limit) as stream:
            for member, content in _files(stream, limit):
                found = _PART.match(PurePosixPath(member.name).name)
                if found and not found["prefix"].startswith("._"):  # macOS adds such files
                    _check_one(copied, found["prefix"], found["part"])
                    _copy(member, content, folder / f"{_NAME}.{found['part']}")
            while stream.read(_BLOCK):
                pass
    except _RefusedError as error:
        raise ValueError(f"{path} is refused: {error}") from error
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged or not an archive: {error}") from error
    if "index" not in copied or len(copied) < 2:
        raise ValueError(f"{path} contains no checkpoint, which is a .index file with its .data files")
    return folder / _NAME


class _Limited(io.RawIOBase):
    """The contents of a plain or gzipped file; reading more than `limit` bytes is an error."""

    def __init__(self, raw: Any, limit: int) -> None:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        self._stream = gzip.GzipFile(fileobj=raw) if zipped else raw
        self._limit = self._left = limit
        self._header_left: int | None = None  # None outside of a header

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(min(size, _BLOCK) if size >= 0 else _BLOCK)
        self._left -= len(data)
        if self._left < 0:
            raise _RefusedError(f"it unpacks to more than {self._limit:,} bytes, too many for weights of its size")
        if self._header_left is not None:
            self._header_left -= len(data)
            if self._header_left < 0:
                raise _RefusedError(f"the header of a member has more than {_MAX_HEADER:,} bytes")
        return data

    @contextlib.contextmanager
    def header(self) -> Iterator[None]:
        """A context in which only a member's header may be read."""
        self._header_left = _MAX_HEADER
        yield
        self._header_left = None


def _files(stream: _Limited, limit: int) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yields the members that are plain files with their contents, which can be read until the next one is yielded.

    Raises:
      _RefusedError: for a member that is not acceptable, or too many.
    """
    with contextlib.ExitStack() as stack:
        with stream.header():  # opening reads the first one
            archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r|"))
        for number in itertools.count():
            with stream.header():
                member = archive.next()
            if member is None:
                return
            if number == _MAX_MEMBERS:
                raise _RefusedError(f"it has more than {_MAX_MEMBERS} members")
            _check_member(member, limit)
            content = archive.extractfile(member)
            if content is not None:  # it is None for a folder
                yield member, content
                while content.read(_BLOCK):  # so that only the next header is left to be read
                    pass


def _check_member(member: tarfile.TarInfo, limit: int) -> None:
    """Raises _RefusedError if a member is not acceptable."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        raise _RefusedError(f"the member {member.name!r} points outside of the archive")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise _RefusedError(f"the member {member.name!r} is not a plain file but a link, a device or sparse")
    if not 0 <= member.size <= limit:
        raise _RefusedError(f"the member {member.name!r} claims {member.size:,} bytes")


def _check_one(copied: dict[str, str], prefix: str, part: str) -> None:
    """Raises _RefusedError if a part belongs to another checkpoint than the parts already copied."""
    if part in copied or any(other != prefix for other in copied.values()):
        raise _RefusedError(f"it contains more than one checkpoint: {', '.join(sorted({prefix, *copied.values()}))}")
    copied[part] = prefix


def _copy(member: tarfile.TarInfo, content: IO[bytes], path: Path) -> None:
    with path.open("xb") as file:
        while block := content.read(_BLOCK):
            file.write(block)
    if path.stat().st_size != member.size:
        raise _RefusedError(f"the member {member.name!r} is cut off")
