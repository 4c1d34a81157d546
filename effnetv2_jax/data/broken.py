"""Images that cannot be decoded: training replaces and counts them, evaluation stops."""

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
_DECORATION = re.compile(r"\{\{function_node [^}]*\}\} | \[Op:\w+\] name:.*")  # where in the graph an error arose

Structure = TypeVar("Structure")


def guard(attempt: Callable[[], Structure], otherwise: Structure) -> Structure:
    """Returns `attempt()`, or `otherwise` if that raises, inside a TensorFlow graph.

    TensorFlow graphs have no `try`. So the attempt is the only element of a data set that drops elements with errors,
    and `otherwise` is the element that follows it.

    Args:
      attempt: returns a structure of tensors.
      otherwise: the same structure with the same types; dimensions that are unknown may differ.
    """
    attempts = tf.data.Dataset.from_tensors(0).map(lambda _: attempt()).ignore_errors()
    return attempts.concatenate(tf.data.Dataset.from_tensors(otherwise)).take(1).get_single_element()


class BrokenImages:
    """The broken images that one host has replaced in training since its process started.

    Attributes:
      skipped: number of replacements.
      reasons: name → reason, for each broken image found.
    """

    def __init__(self, allowed: float, load: Callable[[tf.Tensor], tf.Tensor]):
        """Allows `allowed` different images to be broken; `load` returns an entry's bytes."""
        self.skipped = 0
        self.reasons: dict[str, str] = {}
        self._allowed = int(allowed)
        self._load = load

    def replaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replaces each broken example of a batch by the good one after it, and returns `image` and `label`.

        After the last example of the batch comes the first. All other examples keep their rows, so that later batches
        do not depend on which images are broken.

        Deviation: the official code stops at the first broken image.

        Raises:
          ValueError: if more images are broken than allowed, or all of this batch; the message names them.
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
                f"the number of broken training images is {len(self.reasons)}, and max_broken allows {self._allowed}: "
                + "; ".join(named)
            )
        positions = np.flatnonzero(good)
        replacements = positions[np.searchsorted(positions, np.arange(len(good))) % len(positions)]
        return {key: value[replacements] for key, value in kept.items()}

    def _note(self, name: str, entry: bytes) -> None:
        self.skipped += 1
        if name not in self.reasons:
            self.reasons[name] = why_broken(entry, self._load)
            _log.warning("replaced broken image %d: %s %s", len(self.reasons), name, self.reasons[name])


def why_broken(entry: bytes, load: Callable[[tf.Tensor], tf.Tensor]) -> str:
    """Returns why an entry's image cannot be decoded, as a predicate such as "is empty"."""
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
        return "is not an image"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"announces more than {MAX_PIXELS:,} pixels"
    except OSError as error:
        return f"is damaged or cut short in its header: {error}"
    return f"is a damaged, cut short or unsupported {kind} of {width} x {height} pixels"
