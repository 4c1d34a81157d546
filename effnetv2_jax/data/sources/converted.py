"""A data set that `effnetv2 data convert` wrote: shards of records, and a manifest that says what they hold."""

import dataclasses
import functools
import json
import posixpath
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.sources.datasets import DatasetSpec, ranges
from effnetv2_jax.data.sources.piece import Piece, cut
from effnetv2_jax.data.sources.record_format import RECORD_FORMATS, entry_of
from effnetv2_jax.data.sources.record_index import read_index
from effnetv2_jax.data.sources.source import Source, digest_of, share
from effnetv2_jax.data.sources.storage import file_length

MANIFEST_NAME = "effnetv2_data.json"
SPLITS = ("train", "validation")

_FILES_AT_ONCE = 16  # as in TFDS
_CONNECTIONS = 32


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds, and what was written so far.

    Attributes:
      origin: one line that identifies the data that the shards were made from.
      format: the format of the shards, a key of `RECORD_FORMATS`.
      multi_hot: whether images have several classes.
      class_names: one name for each class, in the order of the labels.
      examples: split → the number of examples in each shard.
      lengths: split → the length of each shard in bytes; 0 until it is written.
    """

    origin: str
    format: str
    multi_hot: bool
    class_names: tuple[str, ...]
    examples: Mapping[str, tuple[int, ...]]
    lengths: Mapping[str, tuple[int, ...]]

    @property
    def split_sizes(self) -> dict[str, int]:
        """The number of examples in each split."""
        return {split: sum(counts) for split, counts in self.examples.items()}

    def path(self, folder: str, split: str, shard: int) -> str:
        """Returns the path of a shard. The names are those of TFDS."""
        return posixpath.join(folder, f"converted-{split}.{self.format}-{shard:05}-of-{len(self.examples[split]):05}")

    def with_length(self, split: str, shard: int, length: int) -> "Manifest":
        """Returns the manifest in which a shard is written and has a length in bytes."""
        lengths = list(self.lengths[split])
        lengths[shard] = length
        return dataclasses.replace(self, lengths={**self.lengths, split: tuple(lengths)})

    def to_json(self) -> str:
        """Returns the text of the manifest's file."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)


def read_manifest(folder: str) -> Manifest:
    """Returns the manifest of a folder.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is damaged.
    """
    path = posixpath.join(folder, MANIFEST_NAME)
    stored = read_index(path)
    if not stored:
        raise FileNotFoundError(f"converted: {path!r} does not exist; `effnetv2 data convert --out FOLDER` writes it")
    try:
        manifest = Manifest(**stored)
        splits = {
            kind: {split: tuple(map(int, numbers)) for split, numbers in getattr(manifest, kind).items()}
            for kind in ("examples", "lengths")
        }
        names = tuple(map(str, manifest.class_names))
        counts, lengths = splits["examples"], splits["lengths"]
        if set(counts) != set(SPLITS) or min(map(min, counts.values())) < 1 or min(map(min, lengths.values())) < 0:
            raise ValueError(f"it must have the numbers of {' and '.join(SPLITS)}, which are not negative")
        if {split: len(each) for split, each in counts.items()} != {
            split: len(each) for split, each in lengths.items()
        }:
            raise ValueError("its numbers of shards disagree")
        if manifest.format not in RECORD_FORMATS:
            raise ValueError(f"its format is {manifest.format!r}; allowed: {', '.join(RECORD_FORMATS)}")
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return dataclasses.replace(manifest, class_names=names, examples=counts, lengths=lengths)


def open_converted(spec: DatasetSpec, split: str, data_dir: str, host_index: int, host_count: int) -> Source:
    """Opens one host's share of a split.

    Args:
      spec: the data set of the kind "converted", with the sizes of its splits.
      split: the split in TFDS's notation.
      data_dir: the folder of the shards, a local path or `gs://…`.
      host_index: index of this host.
      host_count: number of hosts.

    Raises:
      FileNotFoundError: if the folder has no manifest, or a shard is missing.
      ValueError: if the conversion is not complete, a shard is damaged, or there are fewer examples than hosts.
    """
    manifest = whole_manifest(data_dir)
    pieces = [
        piece
        for name, first, end in ranges(spec, split, spec.split_sizes)
        for piece in cut(
            [Piece(manifest.path(data_dir, name, k), 0, count) for k, count in enumerate(manifest.examples[name])],
            first,
            end,
        )
    ]
    total = sum(piece.take for piece in pieces)
    mine = cut(pieces, *share(total, host_index, host_count))
    stored = sum(map(sum, manifest.lengths.values()))
    return Source(
        num_examples=sum(piece.take for piece in mine),
        largest_share=-(-total // host_count),
        class_names=manifest.class_names,
        origin=f"converted:[{split}] {total} examples, sha256 {digest_of([manifest.to_json()])}",
        entry_bytes=stored / sum(manifest.split_sizes.values()),
        read=lambda seed: _read(seed, manifest, mine),
        sizes=lambda: digest_of(f"{name} {lengths}" for name, lengths in sorted(manifest.lengths.items())),
        multi_hot=manifest.multi_hot,
    )


@functools.lru_cache(maxsize=4)
def whole_manifest(folder: str) -> Manifest:
    """Returns the manifest of a folder whose shards are all there. It is cached for the life of the process.

    Raises:
      FileNotFoundError: if there is no manifest, or a shard is missing.
      ValueError: if the manifest or a shard is damaged, or the conversion is not complete.
    """
    manifest = read_manifest(folder)
    shards = [(split, k, length) for split, lengths in manifest.lengths.items() for k, length in enumerate(lengths)]
    written = sum(length > 0 for *_, length in shards)
    if written < len(shards):
        raise ValueError(
            f"converted: {written:,} of {len(shards):,} shards in {folder!r} are written; the same "
            "`effnetv2 data convert` command goes on"
        )
    paths = [manifest.path(folder, split, k) for split, k, _ in shards]
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        found = list(pool.map(length_or_none, paths))
    for path, (*_, length), actual in zip(paths, shards, found, strict=True):
        if actual is None:
            raise FileNotFoundError(f"converted: {path!r} is missing; the same `effnetv2 data convert` writes it again")
        if actual != length:
            raise ValueError(f"{path} is damaged: it has {actual:,} bytes, and {MANIFEST_NAME} says {length:,}")
    return manifest


def length_or_none(path: str) -> int | None:
    """Returns the length of a file in bytes; None if there is none."""
    try:
        return file_length(path)
    except tf.errors.NotFoundError:
        return None


def _read(seed: tf.Tensor | None, manifest: Manifest, pieces: list[Piece]) -> tf.data.Dataset:
    """Returns the entries of pieces; those of 16 files at a time are interleaved in blocks of 16."""
    paths, skips, takes = zip(*pieces, strict=True)
    files = tf.data.Dataset.from_tensor_slices((list(paths), np.array(skips, np.int64), np.array(takes, np.int64)))
    if seed is not None:
        files = files.shuffle(len(pieces), seed, reshuffle_each_iteration=False)
    records = files.interleave(
        RECORD_FORMATS[manifest.format].read,
        cycle_length=_FILES_AT_ONCE,
        block_length=16,
        num_parallel_calls=_FILES_AT_ONCE,
        deterministic=True,
    )
    return records.map(functools.partial(entry_of, multi_hot=manifest.multi_hot))
