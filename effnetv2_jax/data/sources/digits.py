"""The handwritten digits of scikit-learn as a TFDS data set: 1,797 real images that need no download."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

_TEST_EVERY = 5


def held_out_rows(labels: np.ndarray) -> np.ndarray:
    """Returns which examples belong to the test split: every fifth of scikit-learn's list, sorted by class.

    Args:
      labels: int `[1797]`, the digit of each example.

    Returns:
      bool `[1797]`, True for the 360 examples of the test split.
    """
    held_out = np.zeros(labels.shape, bool)
    # The examples are sorted by class first, so that a fifth of each class is held out.
    held_out[np.argsort(labels, kind="stable")[::_TEST_EVERY]] = True
    return held_out


with tfds.core.registered.skip_registration():

    class Digits(tfds.core.GeneratorBasedBuilder):
        """8 × 8 grey images of the digits 0..9, stored as PNG, in the splits "train" (1,437) and "test" (360)."""

        name = "digits"
        VERSION = tfds.core.Version("1.0.0")
        RELEASE_NOTES: ClassVar[dict[str, str]] = {
            "1.0.0": "Every fifth example of the class-sorted list is the test split."
        }

        def _info(self) -> tfds.core.DatasetInfo:
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            )
            return tfds.core.DatasetInfo(
                builder=self,
                description="Optical recognition of handwritten digits, from scikit-learn.",
                features=features,
                supervised_keys=("image", "label"),
                homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
            del dl_manager  # nothing to download
            from sklearn.datasets import load_digits

            digits = load_digits()
            held_out = held_out_rows(digits.target)
            return {
                "train": self._generate_examples(digits, np.flatnonzero(~held_out)),
                "test": self._generate_examples(digits, np.flatnonzero(held_out)),
            }

        def _generate_examples(self, digits: Any, rows: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
            for row in rows:
                # 17 grey levels, 0..16, spread over 0..255.
                image = np.rint(digits.images[row] * (255 / 16)).astype(np.uint8)[..., None]
                yield int(row), {"image": image, "label": int(digits.target[row])}
