"""How many images a host can prepare: our pipeline and a re-creation of the official one, timed in turn."""

import dataclasses
import functools
import io
import resource
import time
from collections.abc import Iterator, Sequence

import numpy as np

from effnetv2_jax.analysis.benchmarks.official_input import official_training_image
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.stream import batched, stream_options
from effnetv2_jax.data.transform import training_transform


@dataclasses.dataclass(frozen=True)
class Rate:
    """Images by wall time and by CPU time of the whole process.

    Attributes:
      per_second: images a second.
      per_cpu_second: images a CPU second, all threads added up.
    """

    per_second: float
    per_cpu_second: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Ours against the official way at one stage.

    Attributes:
      ours: median rates of the rounds.
      official: the same for the re-creation of the official code.
    """

    ours: Rate
    official: Rate

    @property
    def ratio(self) -> float:
        """How many times the official images per CPU second ours are."""
        return self.ours.per_cpu_second / self.official.per_cpu_second


def generated_jpegs(count: int = 64, *, height: int = 375, width: int = 500) -> list[bytes]:
    """Photographs of ImageNet's usual size and weight (about 70 KB): cut from the two that scikit-learn ships."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    encoded = []
    for index in range(count):
        photo = load_sample_images().images[index % 2]
        top, left = (
            int(rng.integers(0, extent - size + 1)) for extent, size in zip(photo.shape, (height, width), strict=False)
        )
        buffer = io.BytesIO()
        Image.fromarray(photo[top : top + height, left : left + width]).save(buffer, "JPEG", quality=92)
        encoded.append(buffer.getvalue())
    return encoded


def compare(
    images: Sequence[bytes],
    config: DataConfig,
    *,
    image_size: int,
    magnitude: float,
    threads: int,
    count: int = 256,
    rounds: int = 3,
) -> Comparison:
    """Times both pipelines in turn, `rounds` times `count` images each, without reading from disk.

    Each round has iterators of its own: one that waits goes on filling its buffers at the other's expense.

    Args:
      images: encoded images, repeated as needed.
      config: how ours prepares them.
      image_size: pixels.
      magnitude: RandAugment's, if the config augments.
      threads: of either pipeline.
      count: images per round.
      rounds: of which the median counts.

    Raises:
      ValueError: for a config of which there is no official way.
    """
    if config.preprocessing != "v2" or config.augmentation not in ("none", "randaugment"):
        raise ValueError(
            "the official way is there for preprocessing 'v2' with augmentation 'randaugment' or 'none'; "
            f"got {config.preprocessing!r} with {config.augmentation!r}"
        )
    ways = [
        _our_batches(images, config, image_size, magnitude, threads),
        _official_batches(images, image_size, None if config.augmentation == "none" else magnitude, threads),
    ]
    rates = [[measured_rate(_warmed(batches), count, _BATCH) for batches in ways] for _ in range(rounds)]
    ours, official = (_median(column) for column in zip(*rates, strict=True))
    return Comparison(ours, official)


_BATCH, _CLASSES = 32, 10


def _our_batches(
    images: Sequence[bytes], config: DataConfig, image_size: int, magnitude: float, threads: int
) -> tf.data.Dataset:
    transform = training_transform(config, image_size=image_size, magnitude=magnitude)
    entries = (
        tf.data.Dataset.from_tensor_slices(list(images))
        .repeat()
        .enumerate()
        .map(
            lambda number, data: {
                "id": tf.strings.as_string(number),
                "image": data,
                "label": number % _CLASSES,
                "seed": tf.stack([0, number]),
            }
        )
    )
    return batched(entries, transform, lambda data: data, batch_size=_BATCH, threads=threads, classes=_CLASSES)


def _official_batches(
    images: Sequence[bytes], image_size: int, magnitude: float | None, threads: int
) -> tf.data.Dataset:
    image_of = functools.partial(official_training_image, image_size=image_size, magnitude=magnitude)
    encoded = tf.data.Dataset.from_tensor_slices(list(images)).repeat()
    return encoded.map(image_of, num_parallel_calls=threads).batch(_BATCH).with_options(stream_options(threads))


def measured_rate(batches: Iterator[object], count: int, batch_size: int) -> Rate:
    """Times at least `count` images of an endless stream of batches whose start-up is past.

    Args:
      batches: ours or anybody's; only `next` is called.
      count: images to time.
      batch_size: images in a batch.
    """
    steps = -(-count // batch_size)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    for _ in range(steps):
        next(batches)
    images = steps * batch_size
    return Rate(images / (time.perf_counter() - wall), images / (_cpu_seconds() - cpu))


def _warmed(batches: tf.data.Dataset) -> Iterator[object]:
    """An iterator over batches whose buffers are full and whose programs are compiled."""
    iterator: Iterator[object] = iter(batches)
    for _ in range(2):
        next(iterator)
    return iterator


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _median(rates: Sequence[Rate]) -> Rate:
    return Rate(
        per_second=float(np.median([rate.per_second for rate in rates])),
        per_cpu_second=float(np.median([rate.per_cpu_second for rate in rates])),
    )
