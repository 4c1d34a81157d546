"""How many records each file of a record data set holds: counted once, kept beside the files."""

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
from typing import NamedTuple

from effnetv2_jax.data.cpu_tensorflow import tf

_log = logging.getLogger(__name__)

INDEX_NAME = "effnetv2_record_counts.json"
_CONNECTIONS = 32


class RecordFile(NamedTuple):
    """One file: its path, its number of records and its length in bytes."""

    path: str
    records: int
    length: int


@functools.lru_cache(maxsize=16)
def indexed_files(data_dir: str, pattern: str) -> tuple[RecordFile, ...]:
    """Returns the files of `data_dir` that match `pattern`, sorted, with their numbers of records.

    The first time, records are counted by hopping from header to header. The counts are kept beside the files, or in
    the user's cache folder where that cannot be written. Within a process the answer does not change: a run must not
    see other files in its second stage than in its first.

    Raises:
      FileNotFoundError: no file matches, or some of a numbered set are missing.
      ValueError: a file is damaged.
    """
    paths = sorted(tf.io.gfile.glob(posixpath.join(data_dir, pattern))) if data_dir else []
    if not paths:
        raise FileNotFoundError(f"no files {pattern} in {data_dir!r}; data_dir must hold the official record files")
    _require_all(paths)
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        lengths = list(pool.map(lambda path: int(tf.io.gfile.stat(path).length), paths))
        counts = _counts(data_dir, paths, lengths, pool)
    return tuple(RecordFile(*row) for row in zip(paths, counts, lengths, strict=True))


def _require_all(paths: Sequence[str]) -> None:
    """Of files called `…-00007-of-01024` all must be there."""
    numbers = [match for path in paths if (match := re.search(r"-(\d+)-of-(\d+)$", path))]
    if not numbers:
        return
    total = max(int(match[2]) for match in numbers)
    missing = sorted(set(range(total)) - {int(match[1]) for match in numbers})
    if missing:
        raise FileNotFoundError(f"beside {paths[0]}, of {total} files these are missing: {missing[:20]}")


def _counts(data_dir: str, paths: Sequence[str], lengths: Sequence[int], pool: ThreadPoolExecutor) -> list[int]:
    keys = [f"{posixpath.basename(path)} {length}" for path, length in zip(paths, lengths, strict=True)]
    places = (posixpath.join(data_dir, INDEX_NAME), _place_in_users_cache(data_dir))
    known: dict[str, int] = {}
    for place in places:
        if tf.io.gfile.exists(place):
            with tf.io.gfile.GFile(place) as file:
                known |= json.load(file)
    missing = [row for row in zip(keys, paths, lengths, strict=True) if row[0] not in known]
    if missing:
        _log.info("counting the records of %d files in %s", len(missing), data_dir)
        found = pool.map(lambda row: (row[0], _count_records(row[1], row[2])), missing)
        known |= dict(found)
        _keep(known, places)
    return [known[key] for key in keys]


def _place_in_users_cache(data_dir: str) -> str:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return os.fspath(cache / "effnetv2_jax" / hashlib.sha256(data_dir.encode()).hexdigest()[:16] / INDEX_NAME)


def _keep(known: Mapping[str, int], places: Sequence[str]) -> None:
    for place in places:
        temporary = f"{place}.{os.getpid()}"
        try:
            tf.io.gfile.makedirs(posixpath.dirname(place))
            with tf.io.gfile.GFile(temporary, "w") as file:
                json.dump(known, file, indent=0, sort_keys=True)
            tf.io.gfile.rename(temporary, place, overwrite=True)
        except tf.errors.OpError as error:
            _log.info("cannot keep the counts in %s: %s", place, error.message)
        else:
            return


def _count_records(path: str, length: int) -> int:
    """Counts records without reading them: 8 bytes of length, 4 of its checksum, the data, 4 of its checksum."""
    count, position = 0, 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while position < length:
            file.seek(position)
            header = file.read(12)
            position += 16 + struct.unpack("<Q", header[:8])[0] if len(header) == 12 else length + 1
            count += 1
    if position != length:
        raise ValueError(f"{path} is damaged: its records do not end where the file does")
    return count
