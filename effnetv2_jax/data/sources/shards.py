"""Data sets in shards: Parquet files as on Hugging Face, and tar files as WebDataset has them."""

import functools
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.sources import parquet, webdataset
from effnetv2_jax.data.sources.datasets import DatasetSpec, ranges
from effnetv2_jax.data.sources.piece import Piece, cut
from effnetv2_jax.data.sources.shard_index import Shard, ShardContent, indexed_shards
from effnetv2_jax.data.sources.source import Source, digest_of, share
from effnetv2_jax.data.sources.storage import list_files

_FILES_AT_ONCE = 16  # as in TFDS


class ShardFormat(NamedTuple):
    """How examples lie in a file.

    Attributes:
      suffix: end of the files' names.
      look: path → what the index of the file holds.
      read: (path, first example, number of examples, marks of the index) → these examples.
    """

    suffix: str
    look: Callable[[str], ShardContent]
    read: Callable[[str, int, int, tuple[int, ...]], Iterator[tuple[str, bytes, int]]]


FORMATS: Mapping[str, ShardFormat] = MappingProxyType(
    {
        "parquet": ShardFormat(".parquet", parquet.look, parquet.read),
        "webdataset": ShardFormat(".tar", webdataset.look, webdataset.read),
    }
)

# The words by which files name their split, and the name that the split has here.
_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
_WORD = re.compile(rf"(?<![a-z0-9])({'|'.join(_SPLITS)})(?![a-z])")
_BLOCK = 16  # examples that Python passes to TensorFlow at once


@functools.lru_cache(maxsize=4)
def shards_of_splits(kind: str, data_dir: str) -> Mapping[str, tuple[Shard, ...]]:
    """Returns split → its files in order, with their numbers of examples.

    The split is the last of the words train, validation (or valid, val) and test in a file's name or, if it has none,
    in the name of its folder. The result is cached for the life of the process.

    Raises:
      FileNotFoundError: if `data_dir` has no such file, or some of a numbered set are missing.
      ValueError: if a file is damaged, or its name says no split.
    """
    form = FORMATS[kind]
    paths = list_files(data_dir, form.suffix) if data_dir else []
    if not paths:
        raise FileNotFoundError(f"{kind}: no files *{form.suffix} in data_dir {data_dir!r} or in folders in it")
    splits: dict[str, list[str]] = {}
    for path in paths:
        splits.setdefault(_split_of(path, data_dir), []).append(path)
    return {name: indexed_shards(data_dir, tuple(members), form.look) for name, members in sorted(splits.items())}


def _split_of(path: str, data_dir: str) -> str:
    folder, name = posixpath.split(path.removeprefix(data_dir))
    for text in (name, folder):
        if words := _WORD.findall(text.lower()):
            return _SPLITS[words[-1]]
    raise ValueError(f"{path}: neither the file nor its folder is named after a split: {', '.join(_SPLITS)}")


def split_sizes(kind: str, data_dir: str) -> dict[str, int]:
    """Returns the number of examples in each split that is stored; see `shards_of_splits`."""
    return {
        name: sum(shard.content.examples for shard in members)
        for name, members in shards_of_splits(kind, data_dir).items()
    }


def open_shards(spec: DatasetSpec, split: str, data_dir: str, host_index: int, host_count: int) -> Source:
    """Opens one host's share of a split.

    Args:
      spec: a data set of a kind in `FORMATS`.
      split: the split in TFDS's notation.
      data_dir: the folder of the files, a local path, `gs://…` or `hf://datasets/OWNER/NAME`.
      host_index: index of this host.
      host_count: number of hosts.

    Raises:
      FileNotFoundError: if there are no files.
      ValueError: if a file is damaged, or there are fewer examples than hosts.
    """
    stored = shards_of_splits(spec.kind, data_dir)
    everything = {shard.path: shard for members in stored.values() for shard in members}
    pieces = [
        piece
        for name, first, end in ranges(spec, split, split_sizes(spec.kind, data_dir))
        for piece in cut([Piece(shard.path, 0, shard.content.examples) for shard in stored[name]], first, end)
    ]
    total = sum(piece.take for piece in pieces)
    mine = cut(pieces, *share(total, host_index, host_count))
    examples = sum(shard.content.examples for shard in everything.values())
    return Source(
        num_examples=sum(piece.take for piece in mine),
        largest_share=-(-total // host_count),
        class_names=_class_names(spec.kind, everything),
        origin=f"{spec.kind}:[{split}] {total} examples in {len(pieces)} files",
        entry_bytes=sum(shard.length for shard in everything.values()) / max(examples, 1),
        read=lambda seed: _read(seed, FORMATS[spec.kind], mine, everything),
        sizes=lambda: digest_of(
            f"{posixpath.basename(path)} {shard.content.examples} {shard.length}" for path, shard in everything.items()
        ),
    )


def _class_names(kind: str, shards: Mapping[str, Shard]) -> tuple[str, ...]:
    """Returns the names that the files record, or the labels' numbers up to the largest one."""
    count = 1 + max(shard.content.largest_label for shard in shards.values())
    names: tuple[str, ...] = next((shard.content.class_names for shard in shards.values()), ())
    if names and len(names) < count:
        raise ValueError(
            f"{kind}: the files record {len(names):,} names of classes and have labels up to {count - 1:,}"
        )
    return names or tuple(map(str, range(count)))


def _read(
    seed: tf.Tensor | None, form: ShardFormat, pieces: list[Piece], shards: Mapping[str, Shard]
) -> tf.data.Dataset:
    """Returns the entries of pieces; those of 16 files at a time are interleaved in blocks of 16."""
    paths, skips, takes = zip(*pieces, strict=True)
    files = tf.data.Dataset.from_tensor_slices((list(paths), np.array(skips, np.int64), np.array(takes, np.int64)))
    if seed is not None:
        files = files.shuffle(len(pieces), seed, reshuffle_each_iteration=False)

    def blocks(path: bytes, skip: int, take: int) -> Iterator[tuple[list[str], list[bytes], list[int]]]:
        name = path.decode()
        block: list[tuple[str, bytes, int]] = []
        for number, example in enumerate(form.read(name, skip, take, shards[name].content.marks), skip):
            own = example[0] or str(number)
            block.append((f"{posixpath.basename(name)}__{own}", *example[1:]))
            if len(block) == _BLOCK:
                yield _columns(block)
                block = []
        if block:
            yield _columns(block)

    def of_file(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
        text, number = tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64)
        signature = (text, text, number)
        return tf.data.Dataset.from_generator(blocks, args=(path, skip, take), output_signature=signature).unbatch()

    entries = files.interleave(
        of_file, cycle_length=_FILES_AT_ONCE, block_length=16, num_parallel_calls=_FILES_AT_ONCE, deterministic=True
    )
    return entries.map(lambda name, image, label: {"id": name, "image": image, "label": label})


def _columns(block: list[tuple[str, bytes, int]]) -> tuple[list[str], list[bytes], list[int]]:
    names, images, labels = zip(*block, strict=True)
    return list(names), list(images), list(labels)
