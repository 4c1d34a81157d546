"""Writes a data set as shards of even size, which `--config.data.dataset=converted` reads."""

import contextlib
import dataclasses
import io
import itertools
import os
import posixpath
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from effnetv2_jax.data.broken import guard, why_broken
from effnetv2_jax.data.config import DataConfig, thread_count
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.dataset import open_source
from effnetv2_jax.data.image_header import ruled_out, why_not_decoded
from effnetv2_jax.data.sources.converted import MANIFEST_NAME, Manifest, length_or_none, read_manifest
from effnetv2_jax.data.sources.record_format import RECORD_FORMATS, record_of
from effnetv2_jax.data.sources.source import Source, share
from effnetv2_jax.data.stream import stream_options
from effnetv2_jax.paths import in_bucket
from effnetv2_jax.whole_file import as_os_error, write_whole

_SPLITS = ("train", "validation")
_SAMPLED = 1024  # images whose sizes tell how many fit into a shard
_ORDER = 0  # the seed that draws the order of the training images
_TEMPORARY = ".tmp-"


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
    sources = dict(zip(_SPLITS, (open_source(config, evaluation=side) for side in (False, True)), strict=True))
    planned = _planned(sources, form, size or ShardSize(), thread_count(config))
    if form in RECORD_FORMATS and in_bucket(folder) and not RECORD_FORMATS[form].reads_buckets:
        raise ValueError(f"files of the format {form!r} cannot be read from a bucket such as {folder!r}; use tfrecord")
    manifest = _begun(folder, planned)
    missing = {
        split: np.array([_is_missing(manifest, folder, split, k) for k in range(len(counts))])
        for split, counts in manifest.examples.items()
    }
    total, written, broken = sum(manifest.split_sizes.values()), 0, {}
    done = total - sum(sum(itertools.compress(counts, missing[split])) for split, counts in manifest.examples.items())
    progress(done, total)
    for split, source in sources.items():
        counts = manifest.examples[split]
        examples = _examples(source, split, np.cumsum(counts), missing[split], thread_count(config))
        for shard in np.flatnonzero(missing[split]):
            path = manifest.path(folder, split, shard)
            with _new_shard(path, form) as write:
                for example in itertools.islice(examples, counts[shard]):
                    write(record_of(*example))
                    broken |= _fault(example)
                    done += 1
                    progress(done, total)
            lengths = list(manifest.lengths[split])
            lengths[shard] = length_or_none(path) or 0
            manifest = dataclasses.replace(manifest, lengths={**manifest.lengths, split: tuple(lengths)})
            _store(manifest, folder)
            written += 1
    return Conversion(manifest, written, broken)


def _planned(sources: Mapping[str, Source], form: str, size: ShardSize, threads: int) -> Manifest:
    """Returns the manifest of a conversion of which nothing is written."""
    if form not in RECORD_FORMATS:
        raise ValueError(f"unknown format {form!r} (allowed: {', '.join(RECORD_FORMATS)})")
    train, evaluation = sources.values()
    if not 0 <= size.shards <= train.num_examples:
        raise ValueError(f"{size.shards} shards are not possible; allowed: 1..{train.num_examples:,}, one for each image")
    if not size.shards and not size.megabytes > 0:
        raise ValueError(f"shards of {size.megabytes:g} MB are not possible; the size must be above 0")
    each = train.num_examples / size.shards if size.shards else size.megabytes * 1e6 / _mean_bytes(train, threads)
    examples = {}
    for split, source in sources.items():
        shards = min(max(1, -int(-source.num_examples // each)), source.num_examples)
        ranges = [share(source.num_examples, shard, shards) for shard in range(shards)]
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
    """Returns about how many bytes an example takes in a shard."""
    everything = np.zeros(1, bool)
    sample = _examples(source, "train", np.array([0]), everything, threads, limit=_SAMPLED)
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
        for path in Path(folder).glob(f"*{_TEMPORARY}*"):
            path.unlink(missing_ok=True)  # a process that was killed left it
    return stored


def _data(manifest: Manifest) -> str:
    return f"{manifest.origin} in {len(manifest.class_names)} classes"


def _shards(manifest: Manifest) -> str:
    return " and ".join(f"{len(counts)} of {split}" for split, counts in manifest.examples.items())


def _is_missing(manifest: Manifest, folder: str, split: str, shard: int) -> bool:
    length = manifest.lengths[split][shard]
    return not length or length_or_none(manifest.path(folder, split, shard)) != length


def _examples(
    source: Source, split: str, ends: np.ndarray, missing: np.ndarray, threads: int, limit: int = -1
) -> Iterator[_Example]:
    """Yields the examples of the shards that are missing; the images of others are not read.

    Args:
      source: the split.
      split: its name; "train" is read in the order that the seed draws.
      ends: int `[shards]`, the number of examples up to the end of each shard.
      missing: bool `[shards]`.
      threads: number of threads that read images.
      limit: the most examples; -1 for all.

    Raises:
      OSError: if an image cannot be read; the message names it.
    """
    wanted = tf.constant(missing)

    def is_missing(number: tf.Tensor, _: Any) -> tf.Tensor:
        return wanted[tf.searchsorted(tf.constant(ends, tf.int64), number[None], side="right")[0]]

    def loaded(_: tf.Tensor, entry: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        failed = (entry["image"], tf.constant(False))
        image, good = guard(lambda: (source.load(entry["image"]), tf.constant(True)), failed)
        return {"id": entry["id"], "image": image, "good": good, "label": tf.reshape(entry["label"], [-1])}

    entries = source.read(tf.constant(_ORDER, tf.int64) if split == "train" else None)
    if limit < 0:
        entries = entries.enumerate().filter(is_missing)
    else:
        entries = entries.take(limit).enumerate()
    entries = entries.map(loaded, num_parallel_calls=threads, deterministic=True)
    for entry in entries.with_options(stream_options(threads)).as_numpy_iterator():
        if not entry["good"]:
            raise OSError(f"{entry['id'].decode()} {why_broken(entry['image'], source.load)}; nothing stands for it")
        yield _Example(entry["id"], entry["image"], entry["label"].tolist())


def _fault(example: _Example) -> dict[str, str]:
    """Returns name → reason if the header of an image shows that it cannot be decoded; {} otherwise."""
    if example.image and not ruled_out(io.BytesIO(example.image)):
        return {}
    return {example.name.decode(): why_not_decoded(example.image)}


@contextlib.contextmanager
def _new_shard(path: str, form: str) -> Iterator[Callable[[bytes], None]]:
    """A context that writes a shard, which appears at its end, whole, or not at all. It yields a function for records.

    Raises:
      OSError: if the shard cannot be written.
    """
    name = posixpath.basename(path)
    with contextlib.ExitStack() as stack:
        parent = stack.enter_context(tempfile.TemporaryDirectory()) if in_bucket(path) else posixpath.dirname(path)
        temporary = Path(parent, f"{name}{_TEMPORARY}{os.getpid()}")
        stack.callback(temporary.unlink, missing_ok=True)
        with as_os_error(epath.Path(path)):
            writer = RECORD_FORMATS[form].writer(str(temporary))

        def write(record: bytes) -> None:
            with as_os_error(epath.Path(path)):
                writer.write(record)

        try:
            yield write
        except BaseException:
            with contextlib.suppress(Exception):
                writer.close()
            raise
        with as_os_error(epath.Path(path)):
            writer.close()
            if in_bucket(path):  # an object appears when it is whole
                tf.io.gfile.copy(str(temporary), path, overwrite=True)
                return
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)


def _store(manifest: Manifest, folder: str) -> None:
    write_whole(epath.Path(folder) / MANIFEST_NAME, manifest.to_json().encode())
