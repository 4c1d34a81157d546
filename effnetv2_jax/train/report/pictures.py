"""The pictures of a run: its curves, and grids of images."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effnetv2_jax.drawable_text import drawable, families, shortened
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.whole_file import write_whole

# The panels of the curves: a title, and for each line its key in the metrics and its label.
_PANELS = (
    (
        "loss",
        (
            ("train/loss", "training, with L2"),
            ("raw/loss", "evaluation, raw weights"),
            ("averaged/loss", "evaluation, averaged weights"),
        ),
    ),
    ("top-1, %", (("raw/top1", "raw weights"), ("averaged/top1", "averaged weights"))),
    ("learning rate", (("train/learning_rate", "learning rate"),)),
    ("image size, px", (("train/image_size", "image size"),)),
)


# The averaged weights' line is thin and dashed and lies on the raw weights' line, so that both show where they are
# equal.
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "train": {"linestyle": "-", "linewidth": 1.2, "marker": "o", "markersize": 1.2},
    "raw": {"linestyle": "-", "linewidth": 4, "alpha": 0.4, "marker": "o", "markersize": 7},
    "averaged": {"linestyle": (0, (4, 2)), "linewidth": 1.2, "marker": "o", "markersize": 2.5},
}
_SAME = 1e-4  # a panel whose values differ by less, relatively, shows a single value


def draw_curves(path: epath.Path, rows: Sequence[Mapping[str, Any]], stages: Sequence[Stage], title: str) -> None:
    """Draws loss, top-1, learning rate and image size by step, with the stages' boundaries, into a PNG file."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    figure.suptitle(title)
    for axes, (name, lines) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        _draw_panel(axes, name, lines, rows)
        for stage in stages[1:]:
            axes.axvline(stage.first_step, color="0.8", linewidth=1, zorder=0)
        axes.set_xlim(0, stages[-1].end_step)
    save_figure(figure, path)


def _draw_panel(axes: Axes, name: str, lines: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> None:
    values: list[float] = []
    for key, label in lines:
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            style = _STYLES[key.partition("/")[0]]
            axes.plot(*zip(*points, strict=True), label=label, clip_on=False, **style)
            values += [value for _, value in points if math.isfinite(value)]
    _set_range(axes, values)
    axes.set_title(name, loc="left", fontsize=10)
    axes.set_xlabel("step")
    if len(lines) > 1 and axes.lines:
        axes.legend(frameon=False, fontsize=8)


def _set_range(axes: Axes, values: Sequence[float]) -> None:
    """Writes the values on the axis in full, and gives an axis of a single value a range of a fifth around it."""
    axes.ticklabel_format(axis="y", useOffset=False)
    if not values:
        return
    middle = (min(values) + max(values)) / 2
    if max(values) - min(values) <= _SAME * abs(middle):
        margin = 0.1 * abs(middle) or 1.0
        axes.set_ylim(middle - margin, middle + margin)


def draw_grid(
    path: epath.Path, images: Sequence[np.ndarray], captions: Sequence[str], title: str, columns: int = 8
) -> None:
    """Draws uint8 images `[H, W, 3]` of any sizes, each with a caption, into a PNG file.

    Characters that no installed font has are escaped in the captions.
    """
    rows = -(-len(images) // columns)
    width, height = 1.4 * columns, 1.8 * rows + 0.4
    # Fixed places, and titles at a fixed height: to find them, matplotlib would take longer than for all the rest.
    places = {"left": 0.05 / width, "right": 1 - 0.05 / width, "bottom": 0.05 / height, "top": 1 - 0.9 / height}
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / height, verticalalignment="top")
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={**places, "wspace": 0.08, "hspace": 0.4})
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        axes.imshow(image, interpolation="nearest")
        shown = "\n".join(map(drawable, caption.split("\n")))
        axes.set_title(shown, y=1, pad=3, fontsize=7, fontfamily=families(caption), parse_math=False)
    save_figure(figure, path)


def save_figure(figure: Figure, path: epath.Path) -> None:
    """Writes a figure as a PNG file, which may lie in `gs://…`.

    Raises:
      OSError: if it cannot be written; the file is then as it was before.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_whole(path, buffer.getvalue())


def target_captions(targets: np.ndarray, class_names: Sequence[str], most: int = 2) -> list[str]:
    """Returns a caption for each row of targets `[N, classes]`: its heaviest classes.

    If images are mixed, each class is on a line of its own with its share. A name that pictures cannot show is escaped
    and follows the number of its class.
    """
    captions = []
    for row in targets:
        heaviest = [int(k) for k in np.argsort(-row)[:most] if row[k] > 0.005]
        if len(heaviest) == 1:
            captions.append(_class_label(heaviest[0], class_names, 20))
        else:
            captions.append("\n".join(f"{row[k]:.0%} {_class_label(k, class_names, 16)}" for k in heaviest))
    return captions


def _class_label(index: int, class_names: Sequence[str], columns: int) -> str:
    name = class_names[index] if index < len(class_names) else str(index)
    shown = drawable(name)
    return shortened(shown if shown == name else f"{index} {shown}", columns)
