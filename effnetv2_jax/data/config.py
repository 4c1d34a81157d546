"""What a run says about its data. Imports no TensorFlow."""

import dataclasses

AUGMENTATIONS = ("randaugment", "autoaugment", "none")
EVAL_CROPS = ("", "centre", "whole")


@dataclasses.dataclass
class DataConfig:
    """Which images, and how they become batches.

    Attributes:
      dataset: a name in `DATASETS`.
      data_dir: where it lies, a local path or `gs://…`; "" for TFDS's default (`TFDS_DATA_DIR`, else
        `~/tensorflow_datasets`).
      train_split: "" for the row's own; an alias of the row, or a TFDS split expression; for "folder" a folder's name.
      eval_split: the same.
      holdout: for "folder" without an evaluation folder, the share of each class held out of training.
      holdout_seed: which images those are.
      preprocessing: a name in `FAMILIES`.
      eval_crop: "" for the family's rule, "centre" for its central square, "whole" for the squashed image.
      min_crop_area: least share of the image that a training crop covers; 0 for the family's own.
      flip: whether training mirrors every other image.
      augmentation: "randaugment", "autoaugment" (policy v0) or "none".
      operations: "official" or "corrected", see `OPERATION_SETS`.
      layers: operations that RandAugment applies to an image.
      size_relative: translations and cutouts of the augmentation keep their share of the image at every size, that of
        224 px, instead of their pixels.
      cutout: whether a square of noise, half as wide as the image, covers a part of each training image.
      scaled_decoding: whether a JPEG crop at least twice as large as needed is decoded at 1/2, 1/4 or 1/8 of its size;
        faster, and smoother than the official code's resizing, so other pixels.
      shuffle_buffer: encoded examples among which the next one is drawn, in all parts together; a part that fits its
        share of it is read once and kept.
      parts: that the training split is cut into, each in an order of its own; a batch takes equally many images of
        each. A host reads the parts that it has rows of: with one part every host reads everything (and decodes only
        its rows), with as many parts as hosts each reads its own. The order depends on the parts, never on the hosts.
      memory_gb: host memory that the pipeline may take, in 10^9 bytes; 0 for half of what is available.
      threads: threads that decode and augment; 0 for one per core.
      max_broken: share of the images that a host reads that may be undecodable before training stops; counted anew when
        a run goes on.
    """

    dataset: str = "digits"
    data_dir: str = ""
    train_split: str = ""
    eval_split: str = ""
    holdout: float = 0.1
    holdout_seed: int = 0
    preprocessing: str = "v2"
    eval_crop: str = ""
    min_crop_area: float = 0.0
    flip: bool = True
    augmentation: str = "randaugment"
    operations: str = "official"
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


def check_config(config: DataConfig) -> None:
    """Refuses values of `config` that no data set could make right.

    Raises:
      ValueError: a field is out of range; the message names it, its value and what is allowed.
    """
    for field, allowed in (("augmentation", AUGMENTATIONS), ("eval_crop", EVAL_CROPS)):
        if getattr(config, field) not in allowed:
            raise ValueError(f"unknown {field} {getattr(config, field)!r}; allowed: {', '.join(map(repr, allowed))}")
    for field, least, greatest in (
        ("min_crop_area", 0.0, 1.0),
        ("max_broken", 0.0, 1.0),
        ("memory_gb", 0.0, float("inf")),
        ("layers", 0, 16),
        ("shuffle_buffer", 1, 1 << 31),
        ("parts", 1, 1 << 16),
        ("threads", 0, 4096),
    ):
        if not least <= getattr(config, field) <= greatest:
            raise ValueError(f"{field} {getattr(config, field)!r} is outside {least}..{greatest}")
