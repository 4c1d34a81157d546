"""Times the input pipeline on this host: on a data set, and in comparison with a re-created official pipeline."""

from __future__ import annotations

import dataclasses
import functools
import io
import resource
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from effnetv2_jax.analysis.benchmarks.official_input import official_training_image
from effnetv2_jax.analysis.topology import Topology
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.pipeline import train_batches
from effnetv2_jax.data.stream import batched, stream_options
from effnetv2_jax.data.transform import training_transform
from effnetv2_jax.train.devices.throughput import training_flops
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.run_memory import check_run_memory

Report = Callable[[str], None]
"""A function that shows what is being done."""

_BATCH, _CLASSES = 32, 10
# TensorFlow fuses `map` and `batch` into one operation, which prepares a batch ahead, or two on many threads.
_BUFFERED = 2
_IDLE_SECONDS = 0.02  # a pipeline is idle if it takes less than a tenth of this time from the CPU


@dataclasses.dataclass(frozen=True)
class Rate:
    """The speed of an input pipeline.

    Attributes:
      per_second: images per second of wall time.
      per_cpu_second: images per second of CPU time, summed over all threads of the process.
    """

    per_second: float
    per_cpu_second: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The speed of this project's pipeline and of the re-created official one, at one stage.

    Attributes:
      ours: median rates of this project's pipeline over the rounds.
      official: the same for the official pipeline.
    """

    ours: Rate
    official: Rate

    @property
    def ratio(self) -> float:
        """Images per CPU second of this project's pipeline, divided by those of the official one."""
        return self.ours.per_cpu_second / self.official.per_cpu_second


def dataset_rate(experiment: Experiment, stage: Stage, count: int, report: Report = lambda _: None) -> Rate:
    """Times this host's input pipeline at a stage on at least `count` images of the config's data set.

    Raises:
      ValueError: if the run does not fit into the memory of this host.
    """
    config = experiment.config
    check_run_memory(experiment)
    batch_size = config.batch_size // jax.process_count()
    batches = train_batches(
        config.data,
        image_size=stage.image_size,
        magnitude=stage.magnitude,
        batch_size=batch_size,
        start_step=stage.first_step,
        seed=config.seed,
        host_index=jax.process_index(),
        host_count=jax.process_count(),
    )
    report("building the input pipeline")
    next(batches)
    report(f"timing {count:,} images of the input pipeline")
    return measured_rate(batches, count, batch_size)


def generated_comparison(
    experiment: Experiment, stage: Stage, threads: int, count: int, report: Report = lambda _: None
) -> Comparison:
    """Compares this project's pipeline with the official one at a stage, on generated JPEGs.

    Raises:
      ValueError: if the official pipeline has no counterpart of the config's preprocessing or augmentation.
    """
    return compare(
        generated_jpegs(),
        experiment.config.data,
        image_size=stage.image_size,
        magnitude=stage.magnitude,
        threads=threads,
        count=count,
        report=report,
    )


def needed_images_per_second(experiment: Experiment, stage: Stage, topology: Topology, peak_fraction: float) -> float:
    """Returns the images per second that a TPU slice needs at a stage to reach a fraction of its peak FLOP/s."""
    flops = training_flops(experiment.spec, stage.image_size, experiment.dataset_info.num_classes)
    return peak_fraction * topology.chips * topology.chip.peak_flops / flops


def generated_jpegs(count: int = 64, *, height: int = 375, width: int = 500) -> list[bytes]:
    """Returns JPEG files of ImageNet's typical size in pixels and bytes (about 70 KB).

    They are random crops of the two photographs that scikit-learn comes with.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photos = load_sample_images().images
    encoded = []
    for index in range(count):
        photo = photos[index % 2]
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
    report: Report = lambda _: None,
) -> Comparison:
    """Times both pipelines alternately on images in memory, and returns the median rates.

    An idle pipeline fills its buffers. Before each timing, the function therefore waits until they are full, and then
    empties those of the pipeline to be timed.

    Args:
      images: encoded images, repeated as often as needed.
      config: configuration of this project's pipeline.
      image_size: height and width in pixels.
      magnitude: magnitude of RandAugment, if the config augments.
      threads: number of threads of each pipeline.
      count: images per round.
      rounds: number of rounds.
      report: shows what is being done.

    Raises:
      ValueError: if the official pipeline has no counterpart of the config's preprocessing or augmentation.
    """
    if config.preprocessing != "v2" or config.augmentation not in ("none", "randaugment"):
        raise ValueError(
            "the official pipeline has only preprocessing 'v2' with augmentation 'randaugment' or 'none'; "
            f"got {config.preprocessing!r} with {config.augmentation!r}"
        )
    builders = {
        "this project's input": lambda: _our_batches(images, config, image_size, magnitude, threads),
        "the official input": lambda: _official_batches(
            images, image_size, None if config.augmentation == "none" else magnitude, threads
        ),
    }
    pipelines = {}
    for name, build in builders.items():
        report(f"building {name}")
        pipelines[name] = _with_empty_buffers(iter(build()))
    rates: dict[str, list[Rate]] = {name: [] for name in pipelines}
    for number in range(rounds):
        for name, batches in pipelines.items():
            report(f"timing {count:,} images of {name}, round {number + 1} of {rounds}")
            _wait_until_idle()
            rates[name].append(measured_rate(_with_empty_buffers(batches), count, _BATCH))
    return Comparison(*map(_median, rates.values()))


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
    """Times as many whole batches as `count` images need.

    Args:
      batches: an endless iterator that is already warmed up.
      count: least number of images to time.
      batch_size: images per batch.
    """
    steps = -(-count // batch_size)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    for _ in range(steps):
        next(batches)
    images = steps * batch_size
    return Rate(images / (time.perf_counter() - wall), images / (_cpu_seconds() - cpu))


def _with_empty_buffers(batches: Iterator[object]) -> Iterator[object]:
    """Takes as many batches as the pipelines hold in their buffers, and returns the iterator."""
    for _ in range(_BUFFERED):
        next(batches)
    return batches


def _wait_until_idle() -> None:
    """Waits until this process takes next to no CPU time, for at most two seconds."""
    for _ in range(100):
        before = _cpu_seconds()
        time.sleep(_IDLE_SECONDS)
        if _cpu_seconds() - before < _IDLE_SECONDS / 10:
            return


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _median(rates: Sequence[Rate]) -> Rate:
    return Rate(
        per_second=float(np.median([rate.per_second for rate in rates])),
        per_cpu_second=float(np.median([rate.per_cpu_second for rate in rates])),
    )
