"""Images that cannot be decoded: training replaces and counts them, evaluation stops."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.images.image_header import why_not_decoded

_log = logging.getLogger(__name__)

_NAMED = 5
_DECORATION = re.compile(r"\{\{function_node [^}]*\}\} | \[Op:\w+\] name:.*")  # where in the graph an error arose

Structure = TypeVar("Structure")


def guard(attempt: Callable[[], Structure], otherwise: Structure) -> Structure:
    """Returns `attempt()`, or `otherwise` if that raises, inside a TensorFlow graph.

    TensorFlow graphs have no `try`. So this takes the first element of a data set of two: the attempt, which is dropped
    if it raises, and then `otherwise`.

    Args:
      attempt: returns a structure of tensors.
      otherwise: the same structure with the same types; dimensions that are statically unknown may differ.
    """
    attempts = tf.data.Dataset.from_tensors(0).map(lambda _: attempt()).ignore_errors()
    return attempts.concatenate(tf.data.Dataset.from_tensors(otherwise)).take(1).get_single_element()


class BrokenImages:
    """The broken images that one host has replaced in training since its process started.

    Attributes:
      skipped: number of replacements.
      reasons: name → reason, for each broken image found.
    """

    def __init__(self, examples: int, max_broken: float, load: Callable[[tf.Tensor], tf.Tensor]):
        """Allows a share of this host's images to be broken.

        Args:
          examples: number of images that this host reads.
          max_broken: the share of them that may be broken, 0..1.
          load: returns an entry's bytes.
        """
        self.skipped = 0
        self.reasons: dict[str, str] = {}
        self._examples = examples
        self._max_broken = max_broken
        self._load = load

    def replaced(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replaces each broken example of a batch by the next good one, and returns `image` and `label`.

        The first example of the batch follows the last. Good examples keep their rows, so that no other row depends on
        which images are broken.

        Deviation: the official code stops at the first broken image.

        Raises:
          ValueError: if more images are broken than allowed, or all images of this batch; the message names some.
        """
        good = batch["good"]
        kept = {key: batch[key] for key in ("image", "label")}
        if good.all():
            return kept
        for position in np.flatnonzero(~good):
            self._note(batch["id"][position].decode(), batch["entry"][position])
        if len(self.reasons) > allowed_broken(self._max_broken, self._examples):
            limit = training_limit(self._max_broken, self._examples)
            raise too_many_broken("at least ", self.reasons, len(self.reasons), self._examples, "training", limit)
        if not good.any():
            limit = "training needs a sound one to replace them"
            raise too_many_broken("in one batch, ", self.reasons, len(good), len(good), "training", limit)
        positions = np.flatnonzero(good)
        replacements = positions[np.searchsorted(positions, np.arange(len(good))) % len(positions)]
        return {key: value[replacements] for key, value in kept.items()}

    def _note(self, name: str, entry: bytes) -> None:
        self.skipped += 1
        if name not in self.reasons:
            self.reasons[name] = why_broken(entry, self._load)
            _log.warning("replaced broken image %d: %s %s", len(self.reasons), name, self.reasons[name])


def allowed_broken(max_broken: float, examples: int) -> int:
    """Returns how many of `examples` images may be broken if the share `max_broken` may."""
    return int(max_broken * examples)


def training_limit(max_broken: float, examples: int) -> str:
    """Returns a phrase about the broken images that `data.max_broken` allows among `examples` training images."""
    number = allowed_broken(max_broken, examples)
    count = f"{number:,}" if number else "none"
    return f"data.max_broken {max_broken:g} allows {100 * max_broken:.3g} %, which is {count} of {examples:,}"


def too_many_broken(
    prefix: str, reasons: Mapping[str, str], count: int, examples: int, kind: str, limit: str
) -> ValueError:
    """Returns the error that refuses broken images.

    Args:
      prefix: what precedes the number, "at least " or "".
      reasons: name → reason, for at least some of the broken images. The message contains the first of them.
      count: number of broken images.
      examples: number of images among which they were found.
      kind: "training" or "evaluation".
      limit: a phrase about how many are allowed.
    """
    named = [f"{name} {reason}" for name, reason in list(reasons.items())[:_NAMED]]
    more = f"; and {count - len(named):,} more" if count > len(named) else ""
    verb = "is" if count == 1 else "are"
    return ValueError(
        f"{prefix}{count:,} of {examples:,} {kind} images {verb} broken ({100 * count / examples:.3g} %), and {limit}: "
        f"{'; '.join(named)}{more}. `effnetv2 data check --config …` lists every broken image"
    )


def why_broken(entry: bytes, load: Callable[[tf.Tensor], tf.Tensor]) -> str:
    """Returns why an entry's image cannot be decoded, in words that follow its name, such as "is empty"."""
    try:
        data = load(tf.constant(entry)).numpy()
    except tf.errors.OpError as error:
        return f"cannot be read: {_DECORATION.sub('', error.message)}"
    return why_not_decoded(data)
