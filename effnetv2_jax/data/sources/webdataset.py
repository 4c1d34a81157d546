"""Tar files of images and labels in the layout of WebDataset: members that share a name up to the first dot."""

from __future__ import annotations

import itertools
import json
import posixpath
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from effnetv2_jax.data.sources.folder import EXTENSIONS
from effnetv2_jax.data.sources.shard_index import ShardContent
from effnetv2_jax.data.sources.storage import open_file

_EVERY = 64  # examples between two marks
_MOST_LABEL_BYTES = 1 << 20


class _Sample(NamedTuple):
    """The members of one example: its name, where it begins in the file, and its parts by extension."""

    name: str
    position: int
    parts: dict[str, tarfile.TarInfo]


def look(path: str) -> ShardContent:
    """Returns what a file holds, from the headers of its members and its labels.

    Raises:
      ValueError: if it is damaged, or an example has no image or no label.
    """
    examples, largest, marks = 0, -1, []
    try:
        with open_file(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for sample in _samples(archive):
                if examples % _EVERY == 0:
                    marks.append(sample.position)
                _image(path, sample)
                largest = max(largest, _label(path, archive, sample))
                examples += 1
    except (tarfile.TarError, OSError) as error:
        raise _damaged(path, error) from error
    return ShardContent(examples, largest, marks=tuple(marks))


def read(path: str, first: int, count: int, marks: tuple[int, ...]) -> Iterator[tuple[str, bytes, int]]:
    """Yields (name, encoded image, label) of consecutive examples, from the mark before the first one on.

    Raises:
      ValueError: if the file is damaged.
    """
    if not count:
        return
    try:
        with open_file(path) as file:
            file.seek(marks[first // _EVERY])
            with tarfile.open(fileobj=file, mode="r:") as archive:
                skip = first % _EVERY
                for sample in itertools.islice(_samples(archive), skip, skip + count):
                    data = archive.extractfile(_image(path, sample))
                    assert data is not None  # it is a regular file
                    yield sample.name, data.read(), _label(path, archive, sample)
    except (tarfile.TarError, OSError) as error:
        raise _damaged(path, error) from error


def _samples(archive: tarfile.TarFile) -> Iterator[_Sample]:
    """Yields the examples of an archive; members that are no regular files are passed over.

    Source: the format of WebDataset: the key of a member is its path up to the first dot of its base name.
    """
    files = ((*_key(member.name), member) for member in archive if member.isreg())
    for name, members in itertools.groupby(files, key=lambda each: each[0]):
        listed = list(members)
        archive.members = []  # type: ignore[attr-defined]  # else the archive keeps every header in memory
        yield _Sample(name, listed[0][2].offset, {extension: member for _, extension, member in listed})


def _key(path: str) -> tuple[str, str]:
    folder, base = posixpath.split(path)
    stem, _, extension = base.partition(".")
    return posixpath.join(folder, stem), extension.lower()


def _image(path: str, sample: _Sample) -> tarfile.TarInfo:
    for extension, member in sample.parts.items():
        if f".{extension}" in EXTENSIONS:
            return member
    raise ValueError(
        f"{path}: the example {sample.name!r} has no image ({', '.join(EXTENSIONS)}); it has {', '.join(sample.parts)}"
    )


def _label(path: str, archive: tarfile.TarFile, sample: _Sample) -> int:
    """Returns the label: the number in the part `cls`, or `label` in the part `json`."""
    for extension in ("cls", "json"):
        member = sample.parts.get(extension)
        if member is None or member.size > _MOST_LABEL_BYTES:
            continue
        data = archive.extractfile(member)
        assert data is not None  # it is a regular file
        text = data.read()
        try:
            return int(text if extension == "cls" else json.loads(text)["label"])
        except (ValueError, KeyError, TypeError):
            continue
    raise ValueError(
        f"{path}: the example {sample.name!r} has no label: a number in its part .cls, or 'label' in its part .json"
    )


def _damaged(path: str, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged or not a tar file: {(str(error).splitlines() or [''])[0]}")
