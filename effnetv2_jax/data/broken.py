"""Images that cannot be decoded: noticed one by one, replaced in training, fatal in evaluation."""

import io
import logging
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.families import MAX_PIXELS

_log = logging.getLogger(__name__)

_NAMES_SHOWN = 20
_DECORATION = re.compile(r"\{\{function_node [^}]*\}\} | \[Op:\w+\] name:.*")  # where in a program, not what

Structure = TypeVar("Structure")


def guard(attempt: Callable[[], Structure], otherwise: Structure) -> Structure:
    """Returns `attempt()`, or `otherwise` if that raises; inside a TensorFlow graph.

    TensorFlow has no `try`. What may fail is a data set of one element: dropped on error, it gives way to the element
    after it.

    Args:
      attempt: makes a structure of tensors.
      otherwise: the same structure with the same types; shapes may differ where they are unknown.
    """
    attempts = tf.data.Dataset.from_tensors(0).map(lambda _: attempt()).ignore_errors()
    return attempts.concatenate(tf.data.Dataset.from_tensors(otherwise)).take(1).get_single_element()


class BrokenImages:
    """What one host had to leave out of training since its process began.

    Attributes:
      skipped: how many times an image was replaced.
      reasons: name → what is wrong, for each broken image met.
    """

    def __init__(self, allowed: float, load: Callable[[tf.Tensor], tf.Tensor]):
        """Allows `allowed` different images to be broken; `load` gives an entry's bytes."""
        self.skipped = 0
        self.reasons: dict[str, str] = {}
        self._allowed = int(allowed)
        self._load = load

    def replaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Puts the next good example of the batch, cyclically, in the place of each broken one.

        Where an example stands decides what comes after it, so nothing moves up. Only `image` and `label` remain.

        Deviation: the official code stops at the first broken image.

        Raises:
          ValueError: more images are broken than allowed, or all of this batch; the message names them.
        """
        good = batch["good"]
        kept = {key: batch[key] for key in ("image", "label")}
        if good.all():
            return kept
        for position in np.flatnonzero(~good):
            self._note(batch["id"][position].decode(), batch["entry"][position])
        if len(self.reasons) > self._allowed or not good.any():
            named = [f"{name} {reason}" for name, reason in list(self.reasons.items())[:_NAMES_SHOWN]]
            raise ValueError(
                f"{len(self.reasons)} training images cannot be decoded, max_broken allows {self._allowed}: "
                + "; ".join(named)
            )
        positions = np.flatnonzero(good)
        stand_in = positions[np.searchsorted(positions, np.arange(len(good))) % len(positions)]
        return {key: value[stand_in] for key, value in kept.items()}

    def _note(self, name: str, entry: bytes) -> None:
        self.skipped += 1
        if name not in self.reasons:
            self.reasons[name] = why_broken(entry, self._load)
            _log.warning("skipped %s, which %s (broken image %d)", name, self.reasons[name], len(self.reasons))


def why_broken(entry: bytes, load: Callable[[tf.Tensor], tf.Tensor]) -> str:
    """What is wrong with the image of an entry that could not be decoded, in a few words."""
    try:
        data = load(tf.constant(entry)).numpy()
    except tf.errors.OpError as error:
        return f"cannot be read: {_DECORATION.sub('', error.message)}"
    if not data:
        return "is empty"
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, width, height = image.format, image.width, image.height
    except UnidentifiedImageError:
        return "is no image, by its content"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"announces more than {MAX_PIXELS:,} pixels"
    except OSError as error:
        return f"is damaged or cut short in its header: {error}"
    return f"is a damaged, cut short or unsupported {kind} of {width} x {height} pixels"
