"""The pictures of a run: its curves, and grids of images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from effnetv2_jax.train.recipe.progressive import Stage

# The panels of the curves: a title, and for each line its key in the metrics and its label.
_PANELS = (
    ("loss", (("train/loss", "training, with L2"), ("raw/loss", "test, raw"), ("averaged/loss", "test, averaged"))),
    ("top-1, %", (("raw/top1", "raw weights"), ("averaged/top1", "averaged weights"))),
    ("learning rate", (("train/learning_rate", "learning rate"),)),
    ("image size, px", (("train/image_size", "image size"),)),
)


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
    for key, label in lines:
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            style = "o-" if not key.startswith("train/") else "-"
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=3, linewidth=1.2)
    axes.set_title(name, loc="left", fontsize=10)
    axes.set_xlabel("step")
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)


def draw_grid(
    path: epath.Path, images: Sequence[np.ndarray], captions: Sequence[str], title: str, columns: int = 8
) -> None:
    """Draws uint8 images `[H, W, 3]` of any sizes, each with a caption, into a PNG file."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.4 * columns, 1.7 * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(caption, fontsize=7)
    save_figure(figure, path)


def save_figure(figure: Figure, path: epath.Path) -> None:
    """Writes a figure as a PNG file, which may lie in `gs://…`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    path.write_bytes(buffer.getvalue())


def target_captions(targets: np.ndarray, class_names: Sequence[str], most: int = 2) -> list[str]:
    """Returns a caption for each row of targets `[N, classes]`: its largest classes, with their shares if mixed."""
    captions = []
    for row in targets:
        heaviest = [int(k) for k in np.argsort(-row)[:most] if row[k] > 0.005]
        names = [class_names[k] if k < len(class_names) else str(k) for k in heaviest]
        if len(heaviest) == 1:
            captions.append(names[0][:20])
        else:
            captions.append(" + ".join(f"{row[k]:.0%} {name[:10]}" for k, name in zip(heaviest, names, strict=True)))
    return captions
