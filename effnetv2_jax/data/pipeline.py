"""Batches for training and evaluation: an exact function of (configuration, seed, step), whatever the threads."""

import os
from collections.abc import Callable, Iterator

import numpy as np

from effnetv2_jax.data.broken import BrokenImages, why_broken
from effnetv2_jax.data.config import DataConfig, DatasetFacts, check_config
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.host_memory import PREFETCHED_BATCHES, buffer_of_part, plan_memory
from effnetv2_jax.data.host_rows import host_rows
from effnetv2_jax.data.sources.datasets import dataset_spec, ranges, resolve_splits
from effnetv2_jax.data.sources.source import Source
from effnetv2_jax.data.stream import batched, endless_entries, rows_in_turn
from effnetv2_jax.data.transform import evaluation_transform, training_transform

__all__ = [
    "DataConfig",
    "DatasetFacts",
    "TrainBatches",
    "dataset_facts",
    "eval_batches",
    "open_source",
    "recorded_facts",
    "thread_count",
    "train_batches",
]

Batch = dict[str, np.ndarray]

_SEEDED_BY_NOTHING = (0, 0)


def dataset_facts(config: DataConfig) -> DatasetFacts:
    """Opens the data set of `config` and says what is in it.

    Raises:
      ValueError: a field of the configuration is wrong, the splits share examples, or the data is malformed.
      FileNotFoundError: the data is not there.
    """
    train, evaluation = (open_source(config, evaluation=side) for side in (False, True))
    return DatasetFacts(
        num_classes=len(train.class_names),
        train_examples=train.num_examples,
        eval_examples=evaluation.num_examples,
        class_names=train.class_names,
        origin=train.origin if train.origin == evaluation.origin else f"{train.origin} {evaluation.origin}",
        multi_hot=dataset_spec(config.dataset).multi_hot,
    )


def recorded_facts(config: DataConfig) -> DatasetFacts | None:
    """Returns what is on record of the data set of `config` without opening it, or None where only the data can tell.

    Raises:
      ValueError: a split is unknown or malformed, or the two share an example.
    """
    spec = dataset_spec(config.dataset)
    if not (spec.split_sizes and spec.num_classes):
        return None
    splits = resolve_splits(spec, config.train_split, config.eval_split)
    train, evaluation = (sum(end - first for _, first, end in ranges(spec, s, spec.split_sizes)) for s in splits)
    names = tuple(str(label) for label in range(spec.num_classes))
    return DatasetFacts(spec.num_classes, train, evaluation, names, f"{spec.name}, not opened", spec.multi_hot)


def train_batches(
    config: DataConfig,
    *,
    image_size: int,
    magnitude: float,
    batch_size: int,
    start_step: int,
    seed: int,
    host_index: int = 0,
    host_count: int = 1,
    broken: BrokenImages | None = None,
) -> "TrainBatches":
    """Returns the endless batches of training from `start_step` on.

    Every example comes once an epoch, in an order drawn from `(seed, epoch)`; a batch may span two epochs. An image's
    crop, flip and augmentation are drawn from `(seed, epoch, the example's id)`. So the batches depend neither on where
    the run started nor on the number of threads, and hosts make consecutive rows of the same global batches however
    many they are: see `HostRows`. (Only what replaces a broken image comes from the host's own rows.)

    With several `config.parts` each goes through its epochs by itself; parts differ by at most one example. When a new
    stage begins, drop the last stage's iterator first: it holds buffers.

    Args:
      config: which data and how.
      image_size: height and width in pixels.
      magnitude: of RandAugment; other augmentations have none.
      batch_size: this host's.
      start_step: the global step of the first batch.
      seed: of order, crops and augmentation.
      host_index: this host.
      host_count: the number of hosts.
      broken: what the stage before met, to be counted on; None begins anew.

    Returns:
      An iterator over `{"image": uint8 [batch_size, image_size, image_size, 3], "label": int32 [batch_size]}`, or with
      labels float32 `[batch_size, num_classes]` where images have several classes. The arrays are read-only.

    Raises:
      ValueError: a field of the configuration is wrong, the memory budget is too small, or the hosts and the parts do
        not divide the batch.
      FileNotFoundError: the data is not there.
    """
    check_config(config)
    _require(
        image_size=(image_size, 1), batch_size=(batch_size, 1), start_step=(start_step, 0), magnitude=(magnitude, 0)
    )
    rows = host_rows(batch_size * host_count, config.parts, host_index, host_count)
    sources = [open_source(config, evaluation=False, host_index=part, host_count=config.parts) for part in rows.parts]
    transform = training_transform(config, image_size=image_size, magnitude=magnitude)
    threads = thread_count(config)
    plan_memory(config, sources, image_size=image_size, batch_size=batch_size, threads=threads)

    def entries_from(step: int, source: Source) -> tf.data.Dataset:
        first_epoch, offset = divmod(step * rows.rows, source.num_examples)
        buffer = buffer_of_part(config)
        return endless_entries(source, seed=seed, first_epoch=first_epoch, shuffle_buffer=buffer).skip(offset)

    def batches_from(step: int, guarded: bool) -> tf.data.Dataset:
        return batched(
            rows_in_turn([entries_from(step, source) for source in sources], rows),
            transform,
            sources[0].load,
            batch_size=batch_size,
            threads=threads,
            classes=len(sources[0].class_names),
            multi_hot=dataset_spec(config.dataset).multi_hot,
            guarded=guarded,
        ).prefetch(PREFETCHED_BATCHES)

    allowed = config.max_broken * sum(source.num_examples for source in sources)
    return TrainBatches(batches_from, start_step, broken or BrokenImages(allowed, sources[0].load))


def eval_batches(
    config: DataConfig, *, image_size: int, batch_size: int, host_index: int = 0, host_count: int = 1
) -> Iterator[Batch]:
    """Returns every example of this host's share of the evaluation split once, in the stored order.

    Every host yields the same number of batches; where its share ends early, zeros fill up and `mask` is 0.

    Returns:
      An iterator over `{"image": uint8 [batch_size, image_size, image_size, 3], "label": int32 [batch_size], "mask":
      float32 [batch_size]}`; labels as in `train_batches`.

    Raises:
      ValueError: a field of the configuration is wrong; while iterating: an image cannot be decoded (it is named).
      FileNotFoundError: the data is not there.
    """
    _require(image_size=(image_size, 1), batch_size=(batch_size, 1))
    source = open_source(config, evaluation=True, host_index=host_index, host_count=host_count)
    transform = evaluation_transform(config, image_size=image_size)
    entries = source.read(None).map(lambda entry: entry | {"seed": tf.constant(_SEEDED_BY_NOTHING, tf.int64)})
    batches = batched(
        entries,
        transform,
        source.load,
        batch_size=batch_size,
        threads=thread_count(config),
        classes=len(source.class_names),
        multi_hot=dataset_spec(config.dataset).multi_hot,
        guarded=True,
        drop_remainder=False,
    ).prefetch(PREFETCHED_BATCHES)
    return _padded(batches, source, batch_size)


class TrainBatches(Iterator[Batch]):
    """The batches of training.

    Attributes:
      broken: the images that could not be decoded and were replaced; `broken.skipped` counts them.
    """

    def __init__(self, batches_from: Callable[[int, bool], tf.data.Dataset], start_step: int, broken: BrokenImages):
        """`batches_from(step, guarded)` gives the batches from a step on."""
        self.broken = broken
        self._batches_from = batches_from
        self._step = start_step
        self._guarded = False
        self._batches = batches_from(start_step, False).as_numpy_iterator()

    def __next__(self) -> Batch:
        """Returns the next batch.

        Guarding each image costs a tenth of the speed and data sets are sound as a rule. So decoding starts unguarded;
        at the first failure the pipeline is built anew, guarded, from the step at hand.

        Raises:
          ValueError: more images are broken than the configuration allows; the message names them.
        """
        try:
            batch = next(self._batches)
        except tf.errors.OpError:
            if self._guarded:
                raise
            self._guarded = True
            self._batches = self._batches_from(self._step, True).as_numpy_iterator()
            batch = next(self._batches)
        self._step += 1
        return self.broken.replaced(batch)


def open_source(config: DataConfig, *, evaluation: bool, host_index: int = 0, host_count: int = 1) -> Source:
    """Opens one host's share of the training or the evaluation split.

    Raises:
      ValueError: a field of the configuration is wrong, the splits share examples, the data is malformed, or there are
        fewer examples than hosts.
      FileNotFoundError: the data is not there.
    """
    check_config(config)
    spec = dataset_spec(config.dataset)
    splits = resolve_splits(spec, config.train_split, config.eval_split)
    if spec.kind == "folder":
        from effnetv2_jax.data.sources.folder import list_folder, open_folder

        listed = list_folder(config.data_dir, *splits, holdout=config.holdout, holdout_seed=config.holdout_seed)
        return open_folder(listed, config.data_dir, host_index, host_count, evaluation=evaluation)
    if spec.kind == "tfrecords":
        from effnetv2_jax.data.sources.tfrecords import open_tfrecords as open_records
    else:
        from effnetv2_jax.data.sources.tfds_source import open_tfds as open_records
    return open_records(spec, splits[evaluation], config.data_dir, host_index, host_count)


def _padded(batches: tf.data.Dataset, source: Source, batch_size: int) -> Iterator[Batch]:
    blank = {
        key: np.zeros((batch_size, *spec.shape[1:]), spec.dtype.as_numpy_dtype)
        for key, spec in batches.element_spec.items()
        if key in ("image", "label")
    } | {"mask": np.zeros(batch_size, np.float32)}
    stored = batches.as_numpy_iterator()
    for _ in range(-(-source.largest_share // batch_size)):
        padded = {key: value.copy() for key, value in blank.items()}
        batch = next(stored, None)
        if batch is not None:
            for name, entry in zip(batch["id"][~batch["good"]], batch["entry"][~batch["good"]], strict=True):
                raise ValueError(f"evaluation cannot decode {name.decode()}: it {why_broken(entry, source.load)}")
            count = len(batch["label"])
            padded["image"][:count], padded["label"][:count], padded["mask"][:count] = batch["image"], batch["label"], 1
        yield padded


def _require(**arguments: tuple[float, float]) -> None:
    for name, (value, least) in arguments.items():
        if not least <= value < float("inf"):
            raise ValueError(f"{name} {value} must be at least {least}")


def thread_count(config: DataConfig) -> int:
    """Threads that decode and augment: as configured, or one for each core that this process may use."""
    return config.threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
