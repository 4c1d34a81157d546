"""The record files that the official EfficientNetV2 code trains on: ImageNet-1k and ImageNet-21k."""

import json
import logging
import os
import posixpath
import re
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.datasets import DatasetSpec, ShardFiles, ranges
from effnetv2_jax.data.source import Source, share

_log = logging.getLogger(__name__)

_INDEX = "effnetv2_record_counts.json"
_FILES_AT_ONCE = 16  # as TFDS


class Piece(NamedTuple):
    """Records `skip … skip + take - 1` of one file."""

    path: str
    skip: int
    take: int


def open_tfrecords(spec: DatasetSpec, split: str, data_dir: str, host_index: int, host_count: int) -> Source:
    """Opens one host's share of a split of the official record files.

    The first time, the records of each file are counted by hopping from header to header; the counts are kept beside
    the files, or in the user's cache folder where that cannot be written.

    Args:
      spec: a row of kind "tfrecords".
      split: in TFDS's notation.
      data_dir: the folder of the files, local or `gs://…`.
      host_index: this host.
      host_count: the number of hosts.

    Raises:
      FileNotFoundError: no files, or some of a numbered set are missing.
      ValueError: a file is damaged, a label is outside the classes, or there are fewer examples than hosts.
    """
    files = {name: _shard_files(spec, shards, data_dir) for name, shards in spec.shards.items()}
    counts = _record_counts(data_dir, sorted({path for paths in files.values() for path in paths}))
    sizes = {name: sum(counts[path] for path in paths) for name, paths in files.items()}
    pieces = [
        piece
        for name, first, end in ranges(spec, split, sizes)
        for piece in _cut([Piece(path, 0, counts[path]) for path in files[name]], first, end)
    ]
    total = sum(piece.take for piece in pieces)
    mine = _cut(pieces, *share(total, host_index, host_count))
    _check_first_records(spec, mine)
    return Source(
        num_examples=sum(piece.take for piece in mine),
        largest_share=-(-total // host_count),
        class_names=_class_names(spec),
        origin=f"tfrecords:{spec.name}[{split}] {total} records in {len(pieces)} files",
        entry_bytes=sum(tf.io.gfile.stat(piece.path).length for piece in mine) / sum(counts[p.path] for p in mine),
        read=lambda seed: _read(seed, spec, mine),
    )


def _shard_files(spec: DatasetSpec, shards: ShardFiles, data_dir: str) -> list[str]:
    pattern = posixpath.join(data_dir, shards.pattern)
    paths = sorted(tf.io.gfile.glob(pattern))
    if not data_dir or not paths:
        raise FileNotFoundError(f"{spec.name}: no files {pattern!r}; data_dir must hold the official record files")
    numbered = [re.search(r"-(\d+)-of-(\d+)$", path) for path in paths]
    if all(numbered):
        expected = {int(match[2]) for match in numbered if match}
        missing = sorted(set(range(max(expected))) - {int(match[1]) for match in numbered if match})
        if missing:
            raise FileNotFoundError(f"{pattern}: of {max(expected)} files these are missing: {missing[:20]}")
    return paths[shards.start : shards.stop]


def _record_counts(data_dir: str, paths: list[str]) -> dict[str, int]:
    """Path → number of records; kept in an index that names each file with its length in bytes."""
    lengths = {path: tf.io.gfile.stat(path).length for path in paths}
    keys = {path: f"{posixpath.basename(path)} {lengths[path]}" for path in paths}
    places = [posixpath.join(data_dir, _INDEX), os.fspath(_cache_folder() / _INDEX)]
    known: dict[str, int] = {}
    for place in places:
        if tf.io.gfile.exists(place):
            with tf.io.gfile.GFile(place) as file:
                known |= json.load(file)
    missing = [path for path in paths if keys[path] not in known]
    if missing:
        _log.info("counting the records of %d files in %s", len(missing), data_dir)
        with ThreadPoolExecutor(32) as pool:
            found = pool.map(lambda path: _count_records(path, lengths[path]), missing)
        known |= {keys[path]: count for path, count in zip(missing, found, strict=True)}
        _keep(known, places)
    return {path: known[keys[path]] for path in paths}


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "effnetv2_jax"


def _keep(known: Mapping[str, int], places: list[str]) -> None:
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


def _cut(pieces: list[Piece], first: int, end: int) -> list[Piece]:
    """The records `first … end - 1` of all pieces, counted through."""
    kept, position = [], 0
    for path, skip, take in pieces:
        start, stop = max(first - position, 0), min(end - position, take)
        if start < stop:
            kept.append(Piece(path, skip + start, stop - start))
        position += take
    return kept


def _read(seed: tf.Tensor | None, spec: DatasetSpec, pieces: list[Piece]) -> tf.data.Dataset:
    def entry(name: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label = _parsed(spec, record)
        allowed = tf.debugging.Assert(_allowed(spec, label), [name, "has a label outside the classes", label])
        with tf.control_dependencies([allowed]):
            return {"id": tf.identity(name), "image": image, "label": label}

    return _records(seed, pieces).map(entry)


def _records(seed: tf.Tensor | None, pieces: list[Piece]) -> tf.data.Dataset:
    """Pairs of a record's name, `<file>__<number in it>`, and its content; 16 files in turn, 16 records at a time."""
    paths, skips, takes = zip(*pieces, strict=True)
    files = tf.data.Dataset.from_tensor_slices((list(paths), np.array(skips, np.int64), np.array(takes, np.int64)))
    if seed is not None:
        files = files.shuffle(len(pieces), seed, reshuffle_each_iteration=False)

    def of_file(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
        name = tf.strings.split(path, "/")[-1]
        numbered = tf.data.TFRecordDataset(path).enumerate().skip(skip).take(take)
        return numbered.map(
            lambda number, record: (tf.strings.join([name, "__", tf.strings.as_string(number)]), record)
        )

    return files.interleave(
        of_file, cycle_length=_FILES_AT_ONCE, block_length=16, num_parallel_calls=_FILES_AT_ONCE, deterministic=True
    )


def _parsed(spec: DatasetSpec, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The encoded image and the label, or labels, of a record."""
    # Source: google/automl efficientnetv2/datasets.py, dataset_parser of ImageNetInput and of ImageNet21kInput.
    encoded = tf.io.FixedLenFeature([], tf.string)
    if spec.multi_hot:
        labels = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
        parsed = tf.io.parse_single_example(record, {"image": encoded, "labels": labels})
        return parsed["image"], parsed["labels"]
    label = tf.io.FixedLenFeature([], tf.int64)
    parsed = tf.io.parse_single_example(record, {"image/encoded": encoded, "image/class/label": label})
    return parsed["image/encoded"], parsed["image/class/label"] - 1  # stored as 1 … 1000


def _allowed(spec: DatasetSpec, label: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all((label >= 0) & (label < spec.num_classes)) & (tf.size(label) > 0)


def _check_first_records(spec: DatasetSpec, pieces: list[Piece]) -> None:
    """Reads the first record of each file, so that those of another data set are refused before training starts."""
    for name, record in _records(None, [piece._replace(take=1) for piece in pieces]):
        try:
            _, label = _parsed(spec, record)
        except tf.errors.OpError as error:
            raise ValueError(f"{name.numpy().decode()} is no record of {spec.name}: {error.message}") from error
        if not _allowed(spec, label):
            raise ValueError(f"{name.numpy().decode()}: label {label.numpy()} is outside 0..{spec.num_classes - 1}")


def _class_names(spec: DatasetSpec) -> tuple[str, ...]:
    if not spec.tfds_name:
        return tuple(map(str, range(spec.num_classes)))
    import tensorflow_datasets as tfds

    return tuple(tfds.builder(spec.tfds_name).info.features["label"].names)
