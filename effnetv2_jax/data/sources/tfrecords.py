"""The record files of ImageNet-1k and ImageNet-21k that the official EfficientNetV2 code reads."""

import functools
import posixpath

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.sources.datasets import DATASETS, DatasetSpec, ranges
from effnetv2_jax.data.sources.piece import Piece, cut
from effnetv2_jax.data.sources.record_index import RecordFile, indexed_files
from effnetv2_jax.data.sources.source import Source, digest_of, labels_fit, share

_FILES_AT_ONCE = 16  # as in TFDS


def open_tfrecords(spec: DatasetSpec, split: str, data_dir: str, host_index: int, host_count: int) -> Source:
    """Opens one host's share of a split of the official record files.

    Args:
      spec: a data set of the kind "tfrecords".
      split: the split in TFDS's notation.
      data_dir: the folder of the files, a local path or `gs://…`.
      host_index: index of this host.
      host_count: number of hosts.

    Raises:
      FileNotFoundError: if there are no files, or some of a numbered set are missing.
      ValueError: if a file is damaged, the first record of a file does not belong to this data set, or there are fewer
        examples than hosts.
    """
    files = _files_of_splits(spec.name, data_dir)
    sizes = {name: sum(file.records for file in members) for name, members in files.items()}
    pieces = [
        piece
        for name, first, end in ranges(spec, split, sizes)
        for piece in cut([Piece(file.path, 0, file.records) for file in files[name]], first, end)
    ]
    total = sum(piece.take for piece in pieces)
    mine = cut(pieces, *share(total, host_index, host_count))
    everything = [file for members in files.values() for file in members]
    return Source(
        num_examples=sum(piece.take for piece in mine),
        largest_share=-(-total // host_count),
        class_names=_class_names(spec),
        origin=f"tfrecords:{spec.name}[{split}] {total} records in {len(pieces)} files",
        entry_bytes=sum(file.length for file in everything) / sum(file.records for file in everything),
        read=lambda seed: _read(seed, spec, mine),
        sizes=lambda: digest_of(f"{posixpath.basename(file.path)} {file.records} {file.length}" for file in everything),
        multi_hot=spec.multi_hot,
    )


@functools.lru_cache(maxsize=4)
def _files_of_splits(dataset: str, data_dir: str) -> dict[str, tuple[RecordFile, ...]]:
    """Returns stored split → its files, after checking the first record of each file."""
    spec = DATASETS[dataset]
    files = {
        name: indexed_files(data_dir, shards.pattern)[shards.start : shards.stop]
        for name, shards in spec.shards.items()
    }
    _check_first_records(spec, [Piece(file.path, 0, 1) for members in files.values() for file in members])
    return files


def _read(seed: tf.Tensor | None, spec: DatasetSpec, pieces: list[Piece]) -> tf.data.Dataset:
    def entry(name: tf.Tensor, record: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label = _parsed(spec, record)
        return {"id": name, "image": image, "label": label}

    return _records(seed, pieces).map(entry)


def _records(seed: tf.Tensor | None, pieces: list[Piece]) -> tf.data.Dataset:
    """Returns pairs (name, content) of the records; a name is `<file>__<number in the file>`.

    The records of 16 files at a time are interleaved in blocks of 16 records.
    """
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
    """Returns the encoded image of a record, and its label or labels."""
    # Source: google/automl efficientnetv2/datasets.py, dataset_parser of ImageNetInput and of ImageNet21kInput.
    encoded = tf.io.FixedLenFeature([], tf.string)
    if spec.multi_hot:
        labels = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
        parsed = tf.io.parse_single_example(record, {"image": encoded, "labels": labels})
        return parsed["image"], parsed["labels"]
    label = tf.io.FixedLenFeature([], tf.int64)
    parsed = tf.io.parse_single_example(record, {"image/encoded": encoded, "image/class/label": label})
    return parsed["image/encoded"], parsed["image/class/label"] - 1  # stored as 1 … 1000


def _check_first_records(spec: DatasetSpec, pieces: list[Piece]) -> None:
    """Reads the first record of each file, to refuse files of another data set before training starts."""
    for name, record in _records(None, pieces):
        try:
            _, label = _parsed(spec, record)
        except tf.errors.OpError as error:
            raise ValueError(f"{name.numpy().decode()} is not a record of {spec.name}: {error.message}") from error
        if not labels_fit(label, spec.num_classes):
            raise ValueError(f"{name.numpy().decode()}: label {label.numpy()} is outside 0..{spec.num_classes - 1}")


def _class_names(spec: DatasetSpec) -> tuple[str, ...]:
    if not spec.tfds_name:
        return tuple(map(str, range(spec.num_classes)))
    import tensorflow_datasets as tfds

    return tuple(tfds.builder(spec.tfds_name).info.features["label"].names)
