"""A picture of predictions: each image next to a bar chart of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from effnetv2_jax.predict.classifier import Guess, Prediction
from effnetv2_jax.predict.images import read_image

_ROW_INCHES = 2.6
_LONGEST_NAME = 28


def draw(predictions: Sequence[Prediction], path: Path) -> None:
    """Writes a PNG file with one row for each prediction.

    Raises:
      ValueError: if `path` does not end in `.png`.
      OSError: if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path.suffix != ".png":
        raise ValueError(f"{path}: the picture must be a .png file")
    figure = Figure(figsize=(8.0, _ROW_INCHES * len(predictions)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(predictions), 2, squeeze=False, width_ratios=(1, 1.4))
    for (left, right), prediction in zip(axes, predictions, strict=True):
        left.imshow(read_image(prediction.path))
        left.set_axis_off()
        left.set_title(prediction.path.name, fontsize=9)
        guesses = prediction.guesses[::-1]
        bars = right.barh(range(len(guesses)), [100 * guess.probability for guess in guesses], color="#2a6f97")
        right.bar_label(bars, fmt="%.1f %%", padding=3, fontsize=9)
        right.set_yticks(range(len(guesses)), [_short(guess) for guess in guesses], fontsize=9)
        right.set_xlim(0, 118)
        right.set_xticks([])
        right.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(path, dpi=130)


def _short(guess: Guess) -> str:
    name = guess.name.split(",")[0] or f"class {guess.index}"
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
