"""The number of records in each record file, counted once and stored next to the files."""

import functools
import hashlib
import json
import logging
import os
import posixpath
import re
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.untrusted_json import MAX_JSON_BYTES, parse_json

_log = logging.getLogger(__name__)

INDEX_NAME = "effnetv2_record_counts.json"
_CONNECTIONS = 32


class RecordFile(NamedTuple):
    """A record file: its path, its number of records and its length in bytes."""

    path: str
    records: int
    length: int


@functools.lru_cache(maxsize=16)
def indexed_files(data_dir: str, pattern: str) -> tuple[RecordFile, ...]:
    """Returns the files of `data_dir` that match `pattern`, sorted, with their numbers of records.

    The first call counts the records by reading only their headers. It stores the counts next to the files, or in the
    user's cache folder if `data_dir` is read-only. The result is cached for the life of the process, so that all stages
    of a run see the same files.

    Raises:
      FileNotFoundError: if no file matches, or some of a numbered set are missing.
      ValueError: if a file is damaged.
    """
    paths = sorted(tf.io.gfile.glob(posixpath.join(data_dir, pattern))) if data_dir else []
    if not paths:
        raise FileNotFoundError(f"no files {pattern} in data_dir {data_dir!r}, which must contain the record files")
    require_all(paths)
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        lengths = list(pool.map(lambda path: int(tf.io.gfile.stat(path).length), paths))
        counts = _counts(data_dir, paths, lengths, pool)
    return tuple(RecordFile(*row) for row in zip(paths, counts, lengths, strict=True))


def require_all(paths: Sequence[str]) -> None:
    """Refuses an incomplete set of numbered files, which have names such as `…-00007-of-01024`.

    Raises:
      FileNotFoundError: if some are missing.
    """
    numbers = [match for path in paths if (match := re.search(r"-(\d+)-of-(\d+)$", path))]
    if not numbers:
        return
    total = max(int(match[2]) for match in numbers)
    missing = sorted(set(range(total)) - {int(match[1]) for match in numbers})
    if missing:
        raise FileNotFoundError(f"files are missing next to {paths[0]}: numbers {missing[:20]} of {total}")


def _counts(data_dir: str, paths: Sequence[str], lengths: Sequence[int], pool: ThreadPoolExecutor) -> list[int]:
    keys = [f"{posixpath.basename(path)} {length}" for path, length in zip(paths, lengths, strict=True)]
    index_paths = (posixpath.join(data_dir, INDEX_NAME), user_index_path(data_dir, INDEX_NAME))
    known: dict[str, int] = {}
    for index_path in index_paths:
        known |= _checked(read_index(index_path), index_path)
    missing = [row for row in zip(keys, paths, lengths, strict=True) if row[0] not in known]
    if missing:
        _log.info("counting the records of %d files in %s", len(missing), data_dir)
        found = pool.map(lambda row: (row[0], _count_records(row[1], row[2])), missing)
        known |= dict(found)
        store_index(known, index_paths)
    return [known[key] for key in keys]


def _checked(known: dict[str, Any], index_path: str) -> dict[str, int]:
    if not all(type(count) is int and count >= 0 for count in known.values()):
        raise ValueError(
            f"{index_path} is damaged: it must contain one object of numbers; delete it, and the records are counted "
            "again"
        )
    return known


def read_index(index_path: str) -> dict[str, Any]:
    """Returns the object in an index file; an empty one if there is no file.

    Raises:
      ValueError: if the file is damaged.
    """
    if not tf.io.gfile.exists(index_path):
        return {}
    with tf.io.gfile.GFile(index_path, "rb") as file:
        content = file.read(MAX_JSON_BYTES + 1)
    try:
        known = parse_json(content)
        if not isinstance(known, dict):
            raise ValueError("it must contain one object")
    except ValueError as error:
        raise ValueError(f"{index_path} is damaged: {error}; delete it, and the records are counted again") from error
    return known


def user_index_path(data_dir: str, name: str) -> str:
    """Returns the path of an index file in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return os.fspath(cache / "effnetv2_jax" / hashlib.sha256(data_dir.encode()).hexdigest()[:16] / name)


def store_index(known: Mapping[str, Any], index_paths: Sequence[str]) -> None:
    """Writes an index file at the first of several paths that can be written to; none if none can."""
    for index_path in index_paths:
        temporary = f"{index_path}.{os.getpid()}"
        try:
            tf.io.gfile.makedirs(posixpath.dirname(index_path))
            with tf.io.gfile.GFile(temporary, "w") as file:
                json.dump(known, file, indent=0, sort_keys=True)
            tf.io.gfile.rename(temporary, index_path, overwrite=True)
        except tf.errors.OpError as error:
            _log.info("cannot store the index %s: %s", index_path, error.message)
        else:
            return


def _count_records(path: str, length: int) -> int:
    """Counts records by their headers.

    A record is 8 bytes of length, 4 bytes of checksum of the length, the data, and 4 bytes of checksum of the data.
    """
    count, position = 0, 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while position < length:
            file.seek(position)
            header = file.read(12)
            position += 16 + struct.unpack("<Q", header[:8])[0] if len(header) == 12 else length + 1
            count += 1
    if position != length:
        raise ValueError(f"{path} is damaged: its last record does not end at the end of the file")
    return count
