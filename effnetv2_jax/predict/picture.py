"""Draws predictions: each image next to a bar chart of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from effnetv2_jax.drawable_text import drawable, families, shortened
from effnetv2_jax.predict.classifier import Guess, Prediction
from effnetv2_jax.predict.images import read_image

MOST_ROWS = 100
"""The largest number of predictions in a picture. The PNG writer of matplotlib allows fewer than 200."""

_ROW_INCHES = 2.6
_LONGEST_NAME = 28
_LONGEST_TITLE = 40
_SIDE = 600  # pixels; more than an image's share of the picture


def check_picture(path: Path) -> None:
    """Raises ValueError if a picture cannot be written to `path`."""
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: the picture must be a .png file")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and the picture must be a .png file")


def draw(predictions: Sequence[Prediction], path: Path) -> None:
    """Writes a PNG file with one row for each of the first `MOST_ROWS` predictions, and its folder if it is missing.

    Characters that no installed font has are escaped.

    Raises:
      ValueError: if `path` does not end in `.png` or is a folder, or there are no predictions.
      OSError: if the file cannot be written, or an image cannot be read any more.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_picture(path)
    if not predictions:
        raise ValueError("there are no predictions to draw")
    shown = predictions[:MOST_ROWS]
    figure = Figure(figsize=(8.0, _ROW_INCHES * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(1, 1.4))
    for (left, right), prediction in zip(axes, shown, strict=True):
        left.imshow(_small(read_image(prediction.path)))
        left.set_axis_off()
        title = shortened(drawable(prediction.path.name), _LONGEST_TITLE)
        left.set_title(title, fontsize=9, fontfamily=families(title), parse_math=False)
        guesses = prediction.guesses[::-1]
        bars = right.barh(range(len(guesses)), [100 * guess.probability for guess in guesses], color="#2a6f97")
        right.bar_label(bars, fmt="%.1f %%", padding=3, fontsize=9)
        labels = [_label(guess) for guess in guesses]
        right.set_yticks(
            range(len(guesses)), labels, fontsize=9, fontfamily=families("".join(labels)), parse_math=False
        )
        right.set_xlim(0, 118)
        right.set_xticks([])
        right.spines[["top", "right", "bottom"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=130)


def _small(image: np.ndarray) -> np.ndarray:
    """Returns an image without the pixels that the picture has no room for."""
    smaller = Image.fromarray(image)
    smaller.thumbnail((_SIDE, _SIDE))
    return np.asarray(smaller)


def _label(guess: Guess) -> str:
    """Returns the first of a class's names, cut to fit. An escaped name follows the number of its class."""
    name = guess.name.split(",")[0] or f"class {guess.index}"
    shown = drawable(name)
    return shortened(shown if shown == name else f"{guess.index} {shown}", _LONGEST_NAME)
