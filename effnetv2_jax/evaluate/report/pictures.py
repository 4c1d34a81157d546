"""The pictures of an evaluation: reliability, confusions, and pages of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effnetv2_jax.drawable_text import drawable, families, shortened
from effnetv2_jax.evaluate.scores import Reliability
from effnetv2_jax.train.report.pictures import draw_grid, save_figure

_BLUE, _RED = "#2a6f97", "#c1440e"
_MOST_PAIRS = 20
_MOST_CLASSES = 16
_LONGEST_NAME = 22
_COLUMNS = 6


def draw_reliability(path: epath.Path, bins: Reliability, title: str) -> None:
    """Draws accuracy by confidence, with the number of images at each confidence below, into a PNG file."""
    figure = Figure(figsize=(5.5, 6.5), layout="constrained")
    figure.suptitle(title.replace(" on ", "\non ", 1), fontsize=9, parse_math=False)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 1 / len(bins.count)
    middles = (np.arange(len(bins.count)) + 0.5) * width
    filled = bins.count > 0
    above.bar(middles[filled], bins.accuracy[filled], width * 0.92, color=_BLUE, label="accuracy")
    above.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="as accurate as confident")
    above.plot(bins.confidence[filled], bins.accuracy[filled], "o", color=_RED, markersize=4, label="mean of a bin")
    above.set_ylim(0, 1)
    above.set_ylabel("share of images that are right")
    above.set_title(f"expected calibration error {100 * bins.error:.2f} %", loc="left", fontsize=10)
    above.legend(frameon=False, fontsize=8, loc="upper left")
    below.bar(middles, bins.count, width * 0.92, color="0.6")
    below.set_xlim(0, 1)
    below.set_ylabel("images")
    below.set_xlabel("confidence: probability of the first class")
    save_figure(figure, path)


def draw_confusions(path: epath.Path, pairs: Sequence[tuple[int, int, int]], names: Sequence[str], title: str) -> None:
    """Draws the most confused pairs of classes as bars, and the mistakes among their classes as a matrix.

    Args:
      path: the PNG file.
      pairs: (class, class it is taken for, number of times), most often first.
      names: the names of the classes.
      title: the title.
    """
    shown = pairs[:_MOST_PAIRS]
    figure = Figure(figsize=(14, 1.6 + 0.34 * max(len(shown), 12)), layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    if not shown:
        for axes in (left, right):
            axes.axis("off")
        left.text(0, 0.5, "no image is mistaken", fontsize=11)
        save_figure(figure, path)
        return
    labels = [f"{_name(names, label)} → {_name(names, prediction)}" for label, prediction, _ in shown][::-1]
    bars = left.barh(range(len(shown)), [times for *_, times in shown][::-1], color=_BLUE)
    left.bar_label(bars, padding=3, fontsize=8)
    left.set_yticks(range(len(shown)), labels, fontsize=8, fontfamily=families("".join(labels)), parse_math=False)
    left.set_xticks([])
    left.margins(y=0.01)
    left.spines[["top", "right", "bottom"]].set_visible(False)
    left.set_title("class → class that it is taken for, and how often", loc="left", fontsize=9)
    _draw_matrix(right, pairs, names)
    save_figure(figure, path)


def _draw_matrix(axes: Axes, pairs: Sequence[tuple[int, int, int]], names: Sequence[str]) -> None:
    """Draws the mistakes among the classes of the most confused pairs."""
    classes: list[int] = []
    for label, prediction, _ in pairs:
        new = [number for number in dict.fromkeys((label, prediction)) if number not in classes]
        if len(classes) + len(new) > _MOST_CLASSES:
            break
        classes += new
    classes.sort()
    position = {number: place for place, number in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), int)
    for label, prediction, times in pairs:
        if label in position and prediction in position:
            counts[position[label], position[prediction]] = times
    axes.imshow(counts, cmap="Blues")
    for row, column in np.argwhere(counts).tolist():
        dark = counts[row, column] > 0.6 * counts.max()
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    labels = [_name(names, number) for number in classes]
    font: dict[str, Any] = {"fontsize": 8, "fontfamily": families("".join(labels)), "parse_math": False}
    axes.set_yticks(range(len(classes)), labels, **font)
    axes.set_xticks(range(len(classes)), labels, rotation=60, ha="right", rotation_mode="anchor", **font)
    axes.set_ylabel("class")
    axes.set_xlabel("taken for")
    axes.set_title("mistakes among these classes", loc="left", fontsize=9)


def draw_page(path: epath.Path, images: Sequence[np.ndarray], captions: Sequence[str], title: str) -> None:
    """Draws images with their captions, six in a row, into a PNG file; without images, it only has a title."""
    if images:
        draw_grid(path, images, captions, title, _COLUMNS)
        return
    figure = Figure(figsize=(6, 1))
    figure.suptitle(f"{title}: none", fontsize=11)
    save_figure(figure, path)


def mistake_caption(label: str, prediction: str, probability: float, whose: str = "") -> str:
    """Returns the caption of a mistaken image: its class, and the class that it is taken for with its probability.

    `whose` names the network, if there are several.
    """
    first, second = (shortened(drawable(name.split(",")[0]), _LONGEST_NAME) for name in (label, prediction))
    return f"{first}\n{f'{whose}: ' if whose else '→ '}{second} {probability:.0%}"


def _name(names: Sequence[str], number: int) -> str:
    name = names[number].split(",")[0]
    return shortened(drawable(name), _LONGEST_NAME)
