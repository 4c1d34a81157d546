"""Pictures of a search: its networks by accuracy and step time, and a network as rows of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from effnetv2_jax.drawable_text import drawable, shortened
from effnetv2_jax.model.scaling import layers_of
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.search.front import best, pareto_front
from effnetv2_jax.search.results import Result

_COLOURS = {"mbconv": "#4c72b0", "fused": "#dd8452"}
_NAMES = {"mbconv": "MBConv", "fused": "Fused-MBConv"}
_MARKERS = "s^Dv<>p*"


def draw_front(path: Path, results: Sequence[Result], references: Sequence[Result], title: str) -> None:
    """Writes a PNG file with the accuracy and the step time of each network, and the Pareto front.

    Networks that failed are left out. Those that were stopped early are not drawn below the least accurate one that was
    trained to the end.
    """
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    whole = [each for each in results if each.is_whole]
    stopped = [each for each in results if each.stopped and not each.failed]
    compared = [each for each in references if not each.failed]
    axes.scatter(*_points(whole), s=22, color="#4c72b0", label=f"trained to the end ({len(whole)})")
    lowest = min((each.top1 for each in (*whole, *compared)), default=0.0)
    label = f"stopped early ({len(stopped)})"
    axes.scatter(*_points(stopped, lowest), s=22, facecolors="none", edgecolors="#999999", clip_on=False, label=label)
    front = pareto_front(results)
    axes.step(*_points(front), where="post", color="#c44e52", linewidth=1.2, label=f"Pareto front ({len(front)})")
    if winner := best(results):
        axes.scatter(*_points([winner]), s=150, facecolors="none", edgecolors="#c44e52", label="highest reward")
    for index, each in enumerate(compared):
        marker = _MARKERS[index % len(_MARKERS)]
        name = shortened(drawable(each.network().name.partition(" (")[0]), 40)
        axes.scatter(*_points([each]), s=70, marker=marker, color="black", label=name, zorder=3)
    axes.set_xscale("log")
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted("{x:.3g}")
    axes.set_xlabel("milliseconds of a training step")
    axes.set_ylabel("top-1, %")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def draw_spec(path: Path, spec: ModelSpec) -> None:
    """Writes a PNG file of a network: a line for each row, with a box for each block, as high as its kernel is wide."""
    layers = layers_of(spec)
    figure = Figure(figsize=(max(7.0, 4.2 + 0.45 * max(layers)), 1.3 + 0.55 * len(layers)), layout="constrained")
    axes = figure.subplots()
    for number, (row, count) in enumerate(zip(spec.rows, layers, strict=True)):
        height = min(0.8, 0.16 * row.kernel_size)
        for block in range(count):
            axes.add_patch(
                Rectangle(
                    (block + 0.08, number - height / 2),
                    0.84,
                    height,
                    facecolor=_COLOURS[row.kind],
                    hatch="//" if row.se_ratio else "",
                    edgecolor="white",
                )
            )
        stride = f" /{row.stride}" if row.stride > 1 else ""
        kernel = f"{row.kernel_size}×{row.kernel_size}"
        text = f"{_NAMES[row.kind]}{row.expand_ratio}, {kernel}{stride}"
        axes.text(-0.25, number, text, ha="right", va="center", fontsize=9)
        axes.text(count + 0.15, number, f"{spec.features(row.features)} channels", va="center", fontsize=9)
    axes.set_xlim(-0.1, max(layers) + 2.2)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_axis_off()
    figure.suptitle(drawable(f"{shortened(spec.name, 60)}: {sum(layers)} blocks"), fontsize=11)
    legend = [Patch(facecolor=_COLOURS[kind], label=_NAMES[kind]) for kind in _COLOURS]
    legend.append(Patch(facecolor="#888888", hatch="//", edgecolor="white", label="with squeeze and excitation"))
    figure.legend(handles=legend, frameon=False, fontsize=8, ncols=3, loc="outside lower center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _points(results: Sequence[Result], lowest: float = 0.0) -> tuple[list[float], list[float]]:
    """Returns the milliseconds of a step, and the top-1 in per cent, at least `lowest`."""
    return [1e3 * each.step_seconds for each in results], [max(lowest, each.top1) for each in results]
