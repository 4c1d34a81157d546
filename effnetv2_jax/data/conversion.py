"""Writes a data set as shards of even size, which `--config.data.dataset=converted` reads."""

import dataclasses
import io
import itertools
import posixpath
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from etils import epath

from effnetv2_jax.data.broken import guard, why_broken
from effnetv2_jax.data.config import DataConfig, thread_count
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.dataset import open_source
from effnetv2_jax.data.images.image_header import ruled_out, why_not_decoded
from effnetv2_jax.data.shard_writer import new_shard, remove_temporary_shards
from effnetv2_jax.data.sources.converted import MANIFEST_NAME, SPLITS, Manifest, length_or_none, read_manifest
from effnetv2_jax.data.sources.record_format import RECORD_FORMATS, record_of
from effnetv2_jax.data.sources.source import Source, share
from effnetv2_jax.data.sources.storage import file_length
from effnetv2_jax.data.sources.tfds_description import write_tfds_description
from effnetv2_jax.data.stream import stream_options
from effnetv2_jax.paths import in_bucket
from effnetv2_jax.whole_file import as_os_error, write_whole

_SAMPLED = 1024  # images whose sizes tell how many fit into a shard
_ORDER = 0  # the seed that draws the order of the training images


@dataclasses.dataclass(frozen=True)
class ShardSize:
    """How large shards are: about `megabytes` of 10^6 bytes or, if `shards` is not 0, so that training has so many."""

    megabytes: float = 200.0
    shards: int = 0


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a call of `convert_dataset` did.

    Attributes:
      manifest: what the folder holds now.
      written: number of shards that this call wrote.
      broken: name → reason, for each image that it wrote although its header shows that it cannot be decoded.
    """

    manifest: Manifest
    written: int
    broken: Mapping[str, str]


class _Example(NamedTuple):
    """An example as it is stored."""

    name: bytes
    image: bytes
    labels: list[int]


def convert_dataset(
    config: DataConfig,
    folder: str,
    form: str = "tfrecord",
    size: ShardSize | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Conversion:
    """Writes both splits of a data set as shards. A call that was stopped goes on where it was.

    Images are copied byte for byte, with their names and labels. Training images come in an order drawn from a fixed
    seed, and evaluation images in the stored one.

    Args:
      config: which data.
      folder: where the shards go: a new folder, or one that an earlier call began with the same arguments; a local path
        or, for TFRecord files, `gs://…`.
      form: the format of the shards, a key of `RECORD_FORMATS`.
      size: how large they are.
      progress: called with the number of examples in the shards so far and the total number.

    Raises:
      ValueError: if an argument is wrong, the data is malformed, or the folder holds other data.
      OSError: if the data does not exist, an image cannot be read, or a shard cannot be written.
    """
    if form not in RECORD_FORMATS:
        raise ValueError(f"unknown format {form!r} (allowed: {', '.join(RECORD_FORMATS)})")
    if in_bucket(folder) and not RECORD_FORMATS[form].reads_buckets:
        raise ValueError(f"{form} files cannot be read from a bucket such as {folder!r}; use tfrecord")
    threads = thread_count(config)
    sources = dict(zip(SPLITS, (open_source(config, evaluation=side) for side in (False, True)), strict=True))
    manifest = _begun(folder, _planned(sources, form, size or ShardSize(), threads))
    missing = {split: _missing(manifest, folder, split) for split in sources}
    total, written = sum(manifest.split_sizes.values()), 0
    broken: dict[str, str] = {}
    done = total - sum(int(np.array(manifest.examples[split])[missing[split]].sum()) for split in sources)
    progress(done, total)
    for split, source in sources.items():
        counts = manifest.examples[split]
        entries = _of_missing_shards(_entries(source, split), counts, missing[split])
        examples = _examples(entries, source, threads)
        for shard in map(int, np.flatnonzero(missing[split])):
            path = manifest.path(folder, split, shard)
            with new_shard(path, form) as write:
                end = done + counts[shard]
                for example in itertools.islice(examples, counts[shard]):
                    write(record_of(*example))
                    broken |= _fault(example)
                    done += 1
                    progress(done, total)
                if done < end:
                    raise ValueError(f"{config.dataset}: {split} ended {end - done:,} examples before its number said")
            manifest = manifest.with_length(split, shard, file_length(path))
            _store(manifest, folder)
            written += 1
    write_tfds_description(manifest, folder)
    return Conversion(manifest, written, broken)


def _planned(sources: Mapping[str, Source], form: str, size: ShardSize, threads: int) -> Manifest:
    """Returns the manifest of a conversion of which nothing is written."""
    train = sources["train"]
    if not 0 <= size.shards <= train.num_examples:
        raise ValueError(
            f"{size.shards} shards are not possible; allowed: 1..{train.num_examples:,}, one for each image"
        )
    if not size.shards and not 0 < size.megabytes < float("inf"):
        raise ValueError(f"shards of {size.megabytes:g} MB are not possible; the size must be above 0 and finite")
    shards = size.shards
    if not shards:
        in_each = max(1, int(size.megabytes * 1e6 / _mean_bytes(train, threads)))
        shards = -(-train.num_examples // in_each)
    examples = {}
    for split, source in sources.items():
        parts = -(-source.num_examples * shards // train.num_examples)  # as large as those of training
        ranges = [share(source.num_examples, part, parts) for part in range(parts)]
        examples[split] = tuple(end - first for first, end in ranges)
    about = [f"{source.origin} {source.sizes()}".rstrip() for source in sources.values()]
    return Manifest(
        origin="; ".join(dict.fromkeys(about)),
        format=form,
        multi_hot=train.multi_hot,
        class_names=train.class_names,
        examples=examples,
        lengths={split: (0,) * len(counts) for split, counts in examples.items()},
    )


def _mean_bytes(source: Source, threads: int) -> float:
    """Returns about how many bytes a training example takes in a shard."""
    sample = _examples(_entries(source, "train").take(_SAMPLED), source, threads)
    return float(np.mean([len(record_of(*example)) for example in sample]))


def _begun(folder: str, planned: Manifest) -> Manifest:
    """Returns the manifest of a folder, which it makes if needed.

    Raises:
      ValueError: if the folder holds something else than what is planned.
    """
    if not tf.io.gfile.exists(posixpath.join(folder, MANIFEST_NAME)):
        if tf.io.gfile.isdir(folder) and tf.io.gfile.listdir(folder):
            raise ValueError(f"{folder!r} has files and no {MANIFEST_NAME}; choose a new folder")
        with as_os_error(epath.Path(folder)):
            tf.io.gfile.makedirs(folder)
        _store(planned, folder)
        return planned
    stored = read_manifest(folder)
    for what, text in (("data", _data), ("format", lambda each: each.format), ("shards", _shards)):
        if text(stored) != text(planned):
            raise ValueError(
                f"{folder!r} has the {what} {text(stored)!r}, and this command would write {text(planned)!r}; choose "
                "another folder, or delete this one"
            )
    if not in_bucket(folder):
        remove_temporary_shards(folder)
    return stored


def _data(manifest: Manifest) -> str:
    return f"{manifest.origin} in {len(manifest.class_names)} classes"


def _shards(manifest: Manifest) -> str:
    return " and ".join(f"{len(counts)} of {split}" for split, counts in manifest.examples.items())


def _missing(manifest: Manifest, folder: str, split: str) -> np.ndarray:
    """Returns which shards are not there, or not whole: bool `[shards]`."""
    lengths = manifest.lengths[split]
    found = [length and length_or_none(manifest.path(folder, split, k)) == length for k, length in enumerate(lengths)]
    return ~np.array(found, bool)


def _entries(source: Source, split: str) -> tf.data.Dataset:
    return source.read(tf.constant(_ORDER, tf.int64) if split == "train" else None)


def _of_missing_shards(entries: tf.data.Dataset, counts: tuple[int, ...], missing: np.ndarray) -> tf.data.Dataset:
    """Returns the entries of the shards that are missing.

    Args:
      entries: the entries of a split.
      counts: the number of examples in each shard.
      missing: bool `[shards]`.
    """
    ends, wanted = tf.constant(np.cumsum(counts), tf.int64), tf.constant(missing)

    def is_missing(number: tf.Tensor, _: dict[str, tf.Tensor]) -> tf.Tensor:
        return wanted[tf.searchsorted(ends, number[None], side="right")[0]]

    return entries.enumerate().filter(is_missing).map(lambda _, entry: entry)


def _examples(entries: tf.data.Dataset, source: Source, threads: int) -> Iterator[_Example]:
    """Yields the examples of entries of a source.

    Raises:
      OSError: if an image cannot be read; the message names it.
    """

    def loaded(entry: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        unreadable = (entry["image"], tf.constant(False))
        image, readable = guard(lambda: (source.load(entry["image"]), tf.constant(True)), unreadable)
        return entry | {"image": image, "readable": readable, "label": tf.reshape(entry["label"], [-1])}

    entries = entries.map(loaded, num_parallel_calls=threads, deterministic=True).with_options(stream_options(threads))
    for entry in entries.as_numpy_iterator():
        if not entry["readable"]:
            raise OSError(f"{entry['id'].decode()} {why_broken(entry['image'], source.load)}")
        yield _Example(entry["id"], entry["image"], entry["label"].tolist())


def _fault(example: _Example) -> dict[str, str]:
    """Returns name → reason if the header of an image shows that it cannot be decoded; {} otherwise."""
    if example.image and not ruled_out(io.BytesIO(example.image)):
        return {}
    return {example.name.decode(): why_not_decoded(example.image)}


def _store(manifest: Manifest, folder: str) -> None:
    write_whole(epath.Path(folder) / MANIFEST_NAME, manifest.to_json().encode())
