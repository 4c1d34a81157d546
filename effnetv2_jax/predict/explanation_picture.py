"""Draws where a network sees the classes that it predicts: each image as it sees it, with a map for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from effnetv2_jax.convert.weights import Weights
from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.drawable_text import drawable, families, shortened
from effnetv2_jax.predict.attribution import grad_cam
from effnetv2_jax.predict.classifier import Prediction
from effnetv2_jax.predict.images import evaluation_image, read_image
from effnetv2_jax.predict.picture import check_picture

MOST_ROWS = 60
"""The largest number of images in a picture."""

_CLASSES = 3
_INCHES = 2.2
_LONGEST = 26


def explain(weights: Weights, predictions: Sequence[Prediction], path: Path) -> None:
    """Writes a PNG file with one row for each of the first `MOST_ROWS` predictions: the image, and Grad-CAM's maps.

    A row has a map for each of the three most probable classes, with the same colours for the same values, and shows
    the part of the image that the network sees.

    Raises:
      ValueError: if `path` does not end in `.png` or is a folder, or there are no predictions.
      OSError: if the file cannot be written, or an image cannot be read any more.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_picture(path)
    if not predictions:
        raise ValueError("there are no predictions to explain")
    shown = predictions[:MOST_ROWS]
    columns = 1 + min(_CLASSES, max(len(prediction.guesses) for prediction in shown))
    figure = Figure(figsize=(_INCHES * columns, (_INCHES + 0.35) * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, prediction in zip(figure.subplots(len(shown), columns, squeeze=False), shown, strict=True):
        guesses = prediction.guesses[:_CLASSES]
        pixels, maps = class_maps(weights, prediction.path, [guess.index for guess in guesses])
        titles = [
            prediction.path.name,
            *(f"{_first(guess.name, guess.index)} {100 * guess.probability:.1f} %" for guess in guesses),
        ]
        for place, title in zip(axes, titles, strict=False):
            text = shortened(drawable(title), _LONGEST)
            place.set_title(text, fontsize=8, fontfamily=families(text), parse_math=False)
            place.imshow(pixels)
        for place in axes:
            place.set_axis_off()
        size = pixels.shape[0]
        for place, values in zip(axes[1:], maps, strict=False):
            place.imshow(
                values, cmap="jet", alpha=0.45, interpolation="bilinear", extent=(-0.5, size - 0.5, size - 0.5, -0.5),
                vmin=0, vmax=max(float(maps.max()), 1e-9),
            )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=110)


def class_maps(weights: Weights, path: Path, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the network sees of an image file, uint8 `[S, S, 3]`, and a map for each class, `[C, h, w]`.

    Raises:
      ValueError: if the image is damaged.
      OSError: if it does not exist or cannot be read.
    """
    provenance = weights.provenance
    family = preprocessing_family(provenance.preprocessing)
    image = evaluation_image(read_image(path), family, provenance.eval_size, provenance.eval_crop)
    mean, std = (np.asarray(values, np.float32).reshape(1, 1, 3) for values in (family.mean, family.std))
    pixels = np.clip(np.rint(image * std + mean), 0, 255).astype(np.uint8)
    repeated = np.repeat(image[None], len(classes), 0)
    maps = grad_cam(weights.model())(weights.variables, repeated, np.asarray(classes, np.int32))
    return pixels, np.asarray(maps)


def _first(name: str, index: int) -> str:
    return name.split(",")[0] or f"class {index}"
