"""Batches for training and evaluation, which depend only on the configuration, the seed and the step."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from effnetv2_jax.data.broken import BrokenImages, why_broken
from effnetv2_jax.data.config import DataConfig, check_config, thread_count
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.dataset import open_source
from effnetv2_jax.data.host_rows import host_rows
from effnetv2_jax.data.memory.host_memory import PREFETCHED_BATCHES, buffer_of_part
from effnetv2_jax.data.sources.source import Source
from effnetv2_jax.data.stream import batched, endless_entries, interleaved_rows
from effnetv2_jax.data.transform import evaluation_transform, training_transform

Batch = dict[str, np.ndarray]

_UNUSED_SEED = (0, 0)


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

    Each epoch contains every example once, in an order drawn from `(seed, epoch)`; a batch may span two epochs. An
    image's crop, flip and augmentation are drawn from `(seed, epoch, the example's id)`. Therefore the batches depend
    neither on the step at which a run started nor on the number of threads. Each host makes consecutive rows of the
    same global batches, whatever the number of hosts (see `HostRows`), except that a host replaces broken images from
    its own rows.

    With several `config.parts`, each part goes through its epochs by itself; the parts differ in length by at most one
    example. The iterator holds buffers, so drop a stage's iterator before you make the next one. `check_host_memory`
    checks the size of the buffers before a run.

    Args:
      config: which data, and how it becomes batches.
      image_size: height and width in pixels.
      magnitude: magnitude of RandAugment; other augmentations ignore it.
      batch_size: number of this host's images in a batch.
      start_step: global step of the first batch.
      seed: seed of the order, the crops and the augmentation.
      host_index: index of this host.
      host_count: number of hosts.
      broken: the count of broken images to continue, that of the stage before; None starts a new count.

    Returns:
      An iterator over `{"image": uint8 [batch_size, image_size, image_size, 3], "label": int32 [batch_size]}`. Labels
      are float32 `[batch_size, num_classes]` if images have several classes. The arrays are read-only.

    Raises:
      ValueError: if an argument or a field of the configuration is wrong, the data is malformed, or the batch is not
        divisible by the hosts or the parts.
      FileNotFoundError: if the data does not exist.
    """
    check_config(config)
    _require(
        image_size=(image_size, 1), batch_size=(batch_size, 1), start_step=(start_step, 0), magnitude=(magnitude, 0)
    )
    _require(parts=(config.parts, 1))
    rows = host_rows(batch_size * host_count, config.parts, host_index, host_count)
    sources = [open_source(config, evaluation=False, host_index=part, host_count=config.parts) for part in rows.parts]
    transform = training_transform(config, image_size=image_size, magnitude=magnitude)
    threads = thread_count(config)

    def entries_from(step: int, source: Source) -> tf.data.Dataset:
        first_epoch, offset = divmod(step * rows.rows, source.num_examples)
        buffer = buffer_of_part(config)
        return endless_entries(source, seed=seed, first_epoch=first_epoch, shuffle_buffer=buffer).skip(offset)

    def batches_from(step: int, guarded: bool) -> tf.data.Dataset:
        return batched(
            interleaved_rows([entries_from(step, source) for source in sources], rows),
            transform,
            sources[0].load,
            batch_size=batch_size,
            threads=threads,
            classes=len(sources[0].class_names),
            multi_hot=sources[0].multi_hot,
            guarded=guarded,
        ).prefetch(PREFETCHED_BATCHES)

    examples = sum(source.num_examples for source in sources)
    broken = broken or BrokenImages(examples, config.max_broken, sources[0].load)
    return TrainBatches(batches_from, start_step, broken)


def eval_batches(
    config: DataConfig, *, image_size: int, batch_size: int, host_index: int = 0, host_count: int = 1
) -> Iterator[Batch]:
    """Returns every example of this host's share of the evaluation split once, in the stored order.

    Every host yields the same number of batches. The rows after the end of a host's share are zero, and so is their
    `mask`.

    Args:
      config: which data, and how it becomes batches.
      image_size: height and width in pixels.
      batch_size: number of this host's images in a batch.
      host_index: index of this host.
      host_count: number of hosts.

    Returns:
      An iterator over `{"image": uint8 [batch_size, image_size, image_size, 3], "label": int32 [batch_size], "mask":
      float32 [batch_size]}`, with labels as in `train_batches`.

    Raises:
      ValueError: if an argument or a field of the configuration is wrong, or the data is malformed; during iteration,
        if an image cannot be decoded; the message names it.
      FileNotFoundError: if the data does not exist.
    """
    source = open_source(config, evaluation=True, host_index=host_index, host_count=host_count)
    return batches_of_source(source, config, image_size=image_size, batch_size=batch_size, multi_hot=source.multi_hot)


def batches_of_source(
    source: Source,
    config: DataConfig,
    *,
    image_size: int,
    batch_size: int,
    multi_hot: bool = False,
    unlabelled: bool = False,
    named: bool = False,
) -> Iterator[Batch]:
    """Returns every example of one host's share once, in the stored order; see `eval_batches`.

    Args:
      source: the share.
      config: how images become batches; which images it names does not matter.
      image_size: height and width in pixels.
      batch_size: number of this host's images in a batch.
      multi_hot: whether labels are sets of classes.
      unlabelled: whether examples may lack a label, which needs `multi_hot`.
      named: whether batches also have `id`, the names of the examples, as an array of bytes objects.

    Raises:
      ValueError: as `eval_batches` does.
    """
    _require(image_size=(image_size, 1), batch_size=(batch_size, 1))
    transform = evaluation_transform(config, image_size=image_size)
    entries = source.read(None).map(lambda entry: entry | {"seed": tf.constant(_UNUSED_SEED, tf.int64)})
    batches = batched(
        entries,
        transform,
        source.load,
        batch_size=batch_size,
        threads=thread_count(config),
        classes=len(source.class_names),
        multi_hot=multi_hot,
        guarded=True,
        drop_remainder=False,
        unlabelled=unlabelled,
    ).prefetch(PREFETCHED_BATCHES)
    return _padded(batches, source, batch_size, ("image", "label", "id") if named else ("image", "label"))


class TrainBatches(Iterator[Batch]):
    """The batches of training.

    Attributes:
      broken: the images that could not be decoded and were replaced; `broken.skipped` counts the replacements.
    """

    def __init__(self, batches_from: Callable[[int, bool], tf.data.Dataset], start_step: int, broken: BrokenImages):
        """Starts at `start_step`; `batches_from(step, guarded)` returns the batches from a step on."""
        self.broken = broken
        self._batches_from = batches_from
        self._step = start_step
        self._guarded = False
        self._batches = batches_from(start_step, False).as_numpy_iterator()

    def __next__(self) -> Batch:
        """Returns the next batch.

        Guarding each image costs a tenth of the speed, and most data sets contain no broken image. So decoding starts
        unguarded. At the first failure, the pipeline is rebuilt with guards, starting from the current step.

        Raises:
          ValueError: if more images are broken than the configuration allows; the message names them.
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


def _padded(batches: tf.data.Dataset, source: Source, batch_size: int, kept: Sequence[str]) -> Iterator[Batch]:
    blank = {
        key: np.zeros((batch_size, *spec.shape[1:]), spec.dtype.as_numpy_dtype)
        for key, spec in batches.element_spec.items()
        if key in kept
    } | {"mask": np.zeros(batch_size, np.float32)}
    stored = batches.as_numpy_iterator()
    for _ in range(-(-source.largest_share // batch_size)):
        padded = {key: value.copy() for key, value in blank.items()}
        batch = next(stored, None)
        if batch is not None:
            for name, entry in zip(batch["id"][~batch["good"]], batch["entry"][~batch["good"]], strict=True):
                raise ValueError(
                    f"evaluation cannot decode {name.decode()}: it {why_broken(entry, source.load)}. "
                    "`effnetv2 data check --config …` lists every broken image"
                )
            count = len(batch["label"])
            padded["mask"][:count] = 1
            for key in kept:
                padded[key][:count] = batch[key]
        yield padded


def _require(**arguments: tuple[float, float]) -> None:
    for name, (value, least) in arguments.items():
        if not least <= value < float("inf"):
            raise ValueError(f"{name} {value} must be at least {least}")
