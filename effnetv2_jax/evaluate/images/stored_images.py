"""The images of a data set that pictures show, as they are stored."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from PIL import Image

from effnetv2_jax.evaluate.images.evaluation_data import EvaluationData

_SIDE = 192  # pixels; more than an image's share of a page


def stored_images(data: EvaluationData, names: Collection[bytes]) -> dict[bytes, np.ndarray]:
    """Returns name → image, uint8 `[H, W, 3]`, reduced to 192 pixels at most, for those of the data that have a name.

    This reads the entries of the whole data set, but decodes only these images.
    """
    from effnetv2_jax.data.cpu_tensorflow import tf
    from effnetv2_jax.data.images.decoding import decode

    source, wanted, found = data.open(0, 1), set(names), {}
    for entry in source.read(None).as_numpy_iterator():
        if entry["id"] in wanted:
            image = Image.fromarray(decode(source.load(tf.constant(entry["image"]))).numpy())
            image.thumbnail((_SIDE, _SIDE))
            found[entry["id"]] = np.asarray(image)
            if len(found) == len(wanted):
                break
    return found
