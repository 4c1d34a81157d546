"""The configuration of a run's data, and the dataset info. This module imports no TensorFlow."""

import dataclasses
import os
from typing import Literal

from effnetv2_jax.config_fields import check_choices


@dataclasses.dataclass
class DataConfig:
    """Which images a run uses, and how they become batches.

    Attributes:
      dataset: name of the data set, a key of `DATASETS`.
      data_dir: folder that holds the data set, a local path or `gs://…`; for "parquet" and "webdataset" also
        `hf://datasets/OWNER/NAME`. "" uses the default folder of TensorFlow
        Datasets (`TFDS_DATA_DIR`, else `~/tensorflow_datasets`).
      train_split: split to train on: an alias of the data set, or a TFDS split expression such as "train[:90%]". For
        "folder", the name of a folder under `data_dir`. "" uses the data set's own.
      eval_split: split to evaluate on, written in the same way. It may not share examples with `train_split`.
      holdout: share of each class's images that is used for evaluation instead of training, if "folder" has no folder
        of evaluation images.
      holdout_seed: seed that selects those images.
      preprocessing: name of the preprocessing family, a key of `FAMILIES`.
      eval_crop: part of the image used in evaluation: "centre" for the central square, "whole" for the whole image
        squashed to a square, "" for the family's rule.
      min_crop_area: least share of the image that a random training crop covers, 0..1. 0 uses the family's own.
      flip: whether to mirror half of the training images, drawn at random.
      augmentation: what is applied to training images; "autoaugment" is its policy v0.
      operations: variant of the augmentation's operations: "official" keeps the quirks of the official code,
        "corrected" removes them (see `OPERATION_SETS`).
      layers: number of operations that RandAugment applies to each image, 0..16.
      size_relative: whether translations and cutouts of the augmentation cover the same share of the image at every
        image size (the share at 224 pixels), instead of the same number of pixels.
      cutout: whether to cover a part of each training image with a square of noise, half as wide as the image.
      scaled_decoding: whether to decode a JPEG crop that is at least twice as large as needed at 1/2, 1/4 or 1/8 of its
        size. This is faster, but it gives smoother pixels than the official code.
      shuffle_buffer: number of encoded examples, over all parts, among which the next example is drawn. A part that
        fits into its share of the buffer is read once and then kept in memory.
      parts: number of parts that the training split is cut into. Each part is shuffled by itself, and every batch takes
        the same number of images from each. A host reads only the parts that its rows of the batch come from: with one
        part, every host reads all examples (and decodes only its own rows); with as many parts as hosts, each host
        reads one. The order of the examples depends on the number of parts, but not on the number of hosts. 0 is one
        part for each host that a run starts on; it keeps them if it resumes on another number of hosts.
      memory_gb: limit on the host memory for the shuffle buffer, the batches and a copy of the state, which checkpoints
        are written from, in 10^9 bytes. 0 uses half of the memory that is available when the run starts.
      threads: number of threads that decode and augment. 0 uses one for each CPU core.
      max_broken: share of the images read by a host that may fail to decode before training stops, 0..1. Counting
        starts again when a run resumes.
    """

    dataset: str = "digits"
    data_dir: str = ""
    train_split: str = ""
    eval_split: str = ""
    holdout: float = 0.1
    holdout_seed: int = 0
    preprocessing: str = "v2"
    eval_crop: Literal["", "centre", "whole"] = ""
    min_crop_area: float = 0.0
    flip: bool = True
    augmentation: Literal["randaugment", "autoaugment", "none"] = "randaugment"
    operations: Literal["official", "corrected"] = "official"
    layers: int = 2
    size_relative: bool = False
    cutout: bool = False
    scaled_decoding: bool = False
    shuffle_buffer: int = 16_384
    parts: int = 1
    memory_gb: float = 0.0
    threads: int = 0
    max_broken: float = 0.001


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """The classes and sizes of a data set, which a trainer needs before it builds anything.

    Attributes:
      num_classes: number of classes.
      train_examples: number of examples in the training split, over all hosts.
      eval_examples: number of examples in the evaluation split, over all hosts.
      class_names: one name for each class, in the order of the labels.
      origin: one line that identifies the data. A run that resumes should find the same.
      multi_hot: whether labels are float32 `[batch, num_classes]` instead of int32 `[batch]`.
      sizes: digest of the sizes of the files; "" if they are unknown.
    """

    num_classes: int
    train_examples: int
    eval_examples: int
    class_names: tuple[str, ...]
    origin: str
    multi_hot: bool
    sizes: str = ""


def check_config(config: DataConfig) -> None:
    """Refuses values of `config` that are wrong for every data set.

    Raises:
      ValueError: if a field is out of range; the message names the field, its value and the allowed values.
    """
    check_choices(config, "data.")
    for field, least, greatest in (
        ("min_crop_area", 0.0, 1.0),
        ("max_broken", 0.0, 1.0),
        ("memory_gb", 0.0, float("inf")),
        ("layers", 0, 16),
        ("shuffle_buffer", 1, 1 << 31),
        ("parts", 0, 1 << 16),
        ("threads", 0, 4096),
    ):
        if not least <= getattr(config, field) <= greatest:
            raise ValueError(f"data.{field} {getattr(config, field)!r} is outside {least}..{greatest}")


def thread_count(config: DataConfig) -> int:
    """Returns the number of threads that decode and augment; by default one for each core this process may use."""
    return config.threads or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
