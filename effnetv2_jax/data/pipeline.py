"""Batches for training and evaluation: an exact function of (configuration, seed, step), whatever the threads."""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterator

import numpy as np

from effnetv2_jax.data import preprocess
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.datasets import DatasetSpec, dataset_spec, resolve_splits
from effnetv2_jax.data.families import preprocessing_family
from effnetv2_jax.data.source import Source

_log = logging.getLogger(__name__)

AUGMENTATIONS = ("randaugment", "autoaugment", "none")


@dataclasses.dataclass
class DataConfig:
    """Which images, and how they become batches.

    Attributes:
      dataset: a name in `DATASETS`.
      data_dir: where it lies; "" for TFDS's default folder.
      train_split: "" for the row's own; an alias of the row, or a TFDS split expression.
      eval_split: the same.
      preprocessing: a name in `FAMILIES`.
      eval_crop: "" for the family's rule, "centre" or "whole".
      min_crop_area: least share of the image that a training crop covers; 0 for the family's own.
      flip: whether training mirrors every other image.
      augmentation: "randaugment", "autoaugment" (policy v0) or "none".
      operations: "official" or "corrected", see `OPERATION_SETS`.
      layers: operations that RandAugment applies to an image.
      size_relative: translations and cutouts of the augmentation keep their share of the image at every size, that of
        224 px, instead of their pixels.
      cutout: whether a square of noise, half as wide as the image, covers a part of each training image.
      threads: threads that decode and augment; 0 for one per core.
      shuffle_buffer: encoded examples among which the next one is drawn.
      max_broken: share of an epoch's images that may be undecodable before training stops.
    """

    dataset: str = "digits"
    data_dir: str = ""
    train_split: str = ""
    eval_split: str = ""
    preprocessing: str = "v2"
    eval_crop: str = ""
    min_crop_area: float = 0.0
    flip: bool = True
    augmentation: str = "randaugment"
    operations: str = "official"
    layers: int = 2
    size_relative: bool = False
    cutout: bool = False
    threads: int = 0
    shuffle_buffer: int = 16_384
    max_broken: float = 0.001


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """What a trainer must know of a data set before it builds anything.

    Attributes:
      num_classes: number of classes.
      train_examples: examples in the training split, all hosts together.
      eval_examples: examples in the evaluation split, all hosts together.
      class_names: one name per class, in the order of the labels.
      origin: what the data was, in one line; a run that resumes should find the same.
      multi_hot: whether labels are float32 `[batch, num_classes]` instead of int32 `[batch]`.
    """

    num_classes: int
    train_examples: int
    eval_examples: int
    class_names: tuple[str, ...]
    origin: str
    multi_hot: bool


def dataset_facts(config: DataConfig) -> DatasetFacts:
    """Opens the data set of `config` and says what is in it.

    Raises:
      ValueError: an unknown data set or split, or splits that share examples.
      FileNotFoundError: the data is not there.
    """
    spec = dataset_spec(config.dataset)
    train, evaluation = (_open(config, spec, split) for split in _splits(config, spec))
    return DatasetFacts(
        num_classes=len(train.class_names),
        train_examples=train.num_examples,
        eval_examples=evaluation.num_examples,
        class_names=train.class_names,
        origin=f"{train.origin} {evaluation.origin}",
        multi_hot=spec.multi_hot,
    )


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
) -> "TrainBatches":
    """Returns the endless batches of training from `start_step` on.

    Every example of the host's share comes once an epoch, in an order drawn from `(seed, epoch)`; a batch may span
    two epochs. An image's crop, flip and augmentation are drawn from `(seed, epoch, the example's id)`. So the batches
    depend neither on where the run started nor on the number of threads.

    Args:
      config: which data and how.
      image_size: height and width in pixels.
      magnitude: of RandAugment; ignored by other augmentations.
      batch_size: this host's.
      start_step: the global step of the first batch.
      seed: of order, crops and augmentation.
      host_index: this host.
      host_count: the number of hosts.

    Returns:
      An iterator over `{"image": uint8 [batch_size, image_size, image_size, 3], "label": int32 [batch_size]}`, or with
      labels float32 `[batch_size, num_classes]` where images have several classes.

    Raises:
      ValueError: a field of the configuration is wrong, or there are fewer examples than hosts.
      FileNotFoundError: the data is not there.
    """
    spec = dataset_spec(config.dataset)
    source = _open(config, spec, _splits(config, spec)[0], host_index, host_count)
    transform = _training_transform(config, image_size, magnitude)
    first_epoch, offset = divmod(start_step * batch_size, source.num_examples)
    entries = _endless_entries(config, source, seed, first_epoch).skip(offset)
    threads = _threads(config)
    examples = entries.map(
        lambda entry: _example(entry, spec, source, transform), num_parallel_calls=threads
    )
    batches = examples.batch(batch_size, drop_remainder=True).prefetch(2).with_options(_options(threads))
    return TrainBatches(batches, allowed=config.max_broken * source.num_examples)


def eval_batches(
    config: DataConfig, *, image_size: int, batch_size: int, host_index: int = 0, host_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """Yields every example of this host's share of the evaluation split once, in the stored order.

    Every host yields the same number of batches; where its share ends early, zeros fill up and `mask` is 0.

    Yields:
      `{"image": uint8 [batch_size, image_size, image_size, 3], "label": int32 [batch_size], "mask": float32 [batch_size]}`.

    Raises:
      ValueError: a field of the configuration is wrong, or an image cannot be decoded (it is named).
      FileNotFoundError: the data is not there.
    """
    spec = dataset_spec(config.dataset)
    source = _open(config, spec, _splits(config, spec)[1], host_index, host_count)
    transform = _evaluation_transform(config, image_size)
    threads = _threads(config)
    examples = source.read(None).map(
        lambda entry: _example(_seeded(entry, 0, 0), spec, source, transform), num_parallel_calls=threads
    )
    batches = examples.batch(batch_size).prefetch(2).with_options(_options(threads))
    return _padded(batches, batch_size, count=-(-source.largest_share // batch_size))


class TrainBatches(Iterator[dict[str, np.ndarray]]):
    """The batches of training, and what had to be left out of them.

    An image that cannot be decoded is replaced, where it stands, by the batch's next decodable one, so the order of
    all other examples and the position in the epoch stay as they are.

    Attributes:
      skipped: how many images were replaced so far.
      broken: their names, each with the reason.
    """

    def __init__(self, batches: tf.data.Dataset, allowed: float):
        self.skipped = 0
        self.broken: dict[str, str] = {}
        self._allowed = allowed
        self._batches = iter(batches)

    def __next__(self) -> dict[str, np.ndarray]:
        """Returns the next batch.

        Raises:
          ValueError: more images are broken than allowed; the message names them.
        """
        batch = next(self._batches)
        image, label, good = (batch[key].numpy() for key in ("image", "label", "good"))
        if not good.all():
            self._note(batch["id"].numpy()[~good], batch["rejected"].numpy()[~good])
            stand_in = _next_good(good)
            image, label = image[stand_in], label[stand_in]
        return {"image": image, "label": label}

    def _note(self, names: np.ndarray, data: np.ndarray) -> None:
        self.skipped += len(names)
        for name, content in zip(names, data, strict=True):
            reason = _why_broken(content)
            if self.broken.setdefault(name.decode(), reason) is reason:
                _log.warning("skipped %s: %s (%d so far)", name.decode(), reason, self.skipped)
        if len(self.broken) > self._allowed:
            raise ValueError(
                f"{len(self.broken)} images cannot be decoded, but max_broken allows {int(self._allowed)}: "
                + "; ".join(f"{name}: {reason}" for name, reason in list(self.broken.items())[:20])
            )


def _next_good(good: np.ndarray) -> np.ndarray:
    """For each position the first good one at or after it, cyclically."""
    if not good.any():
        raise ValueError("no image of a whole batch can be decoded")
    positions = np.flatnonzero(good)
    return positions[np.searchsorted(positions, np.arange(len(good))) % len(positions)]


def _why_broken(data: bytes) -> str:
    try:
        preprocess.decode(tf.constant(data))
    except tf.errors.OpError as error:
        return str(error.message).splitlines()[0]
    return "damaged"


def _padded(batches: tf.data.Dataset, batch_size: int, count: int) -> Iterator[dict[str, np.ndarray]]:
    shapes = {key: (batch_size, *batches.element_spec[key].shape[1:]) for key in ("image", "label")}
    dtypes = {key: batches.element_spec[key].dtype.as_numpy_dtype for key in shapes}
    yielded = 0
    for batch in batches:
        good = batch["good"].numpy()
        if not good.all():
            name, data = (batch[key].numpy()[~good][0] for key in ("id", "rejected"))
            raise ValueError(f"evaluation cannot decode {name.decode()}: {_why_broken(data)}")
        whole = {key: np.zeros(shapes[key], dtypes[key]) for key in shapes}
        for key in shapes:
            whole[key][: len(good)] = batch[key].numpy()
        yield whole | {"mask": (np.arange(batch_size) < len(good)).astype(np.float32)}
        yielded += 1
    for _ in range(yielded, count):
        yield {key: np.zeros(shapes[key], dtypes[key]) for key in shapes} | {"mask": np.zeros(batch_size, np.float32)}


def _splits(config: DataConfig, spec: DatasetSpec) -> tuple[str, str]:
    return resolve_splits(spec, config.train_split, config.eval_split)


def _open(config: DataConfig, spec: DatasetSpec, split: str, host_index: int = 0, host_count: int = 1) -> Source:
    from effnetv2_jax.data.tfds_source import open_tfds

    return open_tfds(spec, split, config.data_dir, host_index, host_count)


@dataclasses.dataclass(frozen=True)
class _Transform:
    """An encoded image to a uint8 one, in two steps: `decode` may fail, `finish` may not. Both are given the seed."""

    decode: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    finish: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _training_transform(config: DataConfig, image_size: int, magnitude: float) -> _Transform:
    family = preprocessing_family(config.preprocessing)
    augment = _augmentation(config, image_size, magnitude)

    def finish(crop: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        image = preprocess.resize(crop, image_size, family)
        if config.flip:
            image = preprocess.flipped(image, seed)
        if augment is None:
            image = preprocess.rounded(image)
        else:
            image = augment(preprocess.truncated(image), preprocess.seed_for(seed, preprocess.AUGMENTATION))
        if config.cutout:
            image = preprocess.noise_cutout(image, preprocess.seed_for(seed, preprocess.CUTOUT))
        return image

    decode = functools.partial(
        preprocess.training_crop, family=family, image_size=image_size, min_crop_area=config.min_crop_area
    )
    return _Transform(decode, finish)


def _augmentation(
    config: DataConfig, image_size: int, magnitude: float
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
    if config.augmentation not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {config.augmentation!r}; allowed: {', '.join(AUGMENTATIONS)}")
    if config.augmentation == "none":
        return None
    from effnetv2_jax.data import autoaugment, randaugment

    scales = randaugment.Scales() if config.augmentation == "randaugment" else autoaugment.SCALES
    if config.size_relative:
        scales = scales.relative_to(image_size)
    if config.augmentation == "autoaugment":
        return autoaugment.autoaugment(operations=config.operations, scales=scales)
    return randaugment.randaugment(magnitude, layers=config.layers, operations=config.operations, scales=scales)


def _evaluation_transform(config: DataConfig, image_size: int) -> _Transform:
    family = preprocessing_family(config.preprocessing)
    rules = {"": family.crops_in_evaluation(image_size), "centre": True, "whole": False}
    if config.eval_crop not in rules:
        raise ValueError(f"unknown eval_crop {config.eval_crop!r}; allowed: {', '.join(map(repr, rules))}")

    def finish(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if rules[config.eval_crop]:
            image = preprocess.evaluation_crop(image, family=family, image_size=image_size)
        return preprocess.rounded(preprocess.resize(image, image_size, family))

    # The whole image is decoded, so that damage outside the crop is noticed too.
    return _Transform(lambda data, seed: preprocess.decode(data), finish)


def _endless_entries(config: DataConfig, source: Source, seed: int, first_epoch: int) -> tf.data.Dataset:
    """The entries of epoch after epoch, each with the seed of its image."""
    # A share that the buffer holds is shuffled evenly by it, so its files are read in the stored order and kept.
    whole = source.read(None).cache() if source.num_examples <= config.shuffle_buffer else None

    @tf.autograph.experimental.do_not_convert
    def epoch_entries(epoch: tf.Tensor) -> tf.data.Dataset:
        tf.compat.v1.set_random_seed(None)  # of this function's graph: a program's own global seed must not count
        files, entries = tf.unstack(
            tf.random.stateless_uniform([2], tf.stack([seed, epoch]), None, None, tf.int64, alg="philox")
        )
        stored = source.read(files) if whole is None else whole
        buffer = min(config.shuffle_buffer, source.num_examples)
        shuffled = stored.shuffle(buffer, entries, reshuffle_each_iteration=False)
        return shuffled.map(lambda entry: _seeded(entry, seed, epoch))

    return tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(epoch_entries)


def _seeded(entry: dict[str, tf.Tensor], seed: int, epoch: tf.Tensor | int) -> dict[str, tf.Tensor]:
    of_epoch = tf.random.stateless_uniform([], tf.stack([seed, epoch]), None, None, tf.int64, alg="philox")
    of_example = tf.strings.to_hash_bucket_fast(entry["id"], np.iinfo(np.int64).max)
    return entry | {"seed": tf.stack([of_epoch, of_example])}


def _example(
    entry: dict[str, tf.Tensor], spec: DatasetSpec, source: Source, transform: _Transform
) -> dict[str, tf.Tensor]:
    """One example of a batch; if its image is broken, a black one with the offending bytes beside it.

    TensorFlow has no `try`. The part that may fail is a data set of one element: dropped on error, it gives way to the
    element after it.
    """
    decoded = tf.data.Dataset.from_tensors((entry["image"], entry["seed"])).map(
        lambda image, seed: (transform.decode(source.load(image), seed), True, "")
    )
    black = tf.data.Dataset.from_tensors((tf.zeros([1, 1, 3], tf.uint8), False, entry["image"]))
    image, good, rejected = decoded.ignore_errors().concatenate(black).take(1).get_single_element()
    label = tf.cast(entry["label"], tf.int32)
    if spec.multi_hot:
        label = tf.reduce_max(tf.one_hot(label, spec.num_classes), axis=0)
    return {
        "image": transform.finish(image, entry["seed"]),
        "label": label,
        "good": good,
        "id": entry["id"],
        "rejected": rejected,
    }


def _threads(config: DataConfig) -> int:
    return config.threads or len(os.sched_getaffinity(0))


def _options(threads: int) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return options
