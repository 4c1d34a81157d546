"""The tables of the paper as rows of data: what each row changes in a run, and what the paper says of the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from effnetv2_jax.ablation.changes import (
    STRENGTHS,
    as_in_last_stage,
    constant,
    evaluated_at,
    network,
    preset,
    with_fused_rows,
)
from effnetv2_jax.ablation.outline import Fields, Outline
from effnetv2_jax.model.specs import ModelSpec

Weights = Literal["", "raw"]
Measure = Literal["top1", "seconds", "steps_per_second"]

AS_CONFIGURED = "as configured"
_SPEED: Measure = "steps_per_second"


class Networks(NamedTuple):
    """The networks that tables are about.

    Attributes:
      base: the network whose rows are fused.
      compared: the networks that are trained in the same way, with names of their own; the others are compared with the
        first one.
    """

    base: ModelSpec
    compared: tuple[ModelSpec, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table: a run that is trained with several seeds.

    Attributes:
      name: what the row shows.
      fields: the fields of the config that it changes.
      weights: the weights whose accuracy it shows; "" for those that the config reports.
      point: the image size in pixels and the magnitude of RandAugment, in a table of those.
    """

    name: str
    fields: Fields
    weights: Weights = ""
    point: tuple[int, float] | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """Something that the paper or the recipe says of the rows of a table.

    Attributes:
      text: the claim.
      weights: name of a row → its weight in a sum of means, which is above 0 if the claim holds.
      measure: what is summed: the top-1 in per cent, the seconds of the run's steps, or the steps a second at the last
        stage's image size.
    """

    text: str
    weights: Mapping[str, float]
    measure: Measure = "top1"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      title: its title.
      rows: its rows; differences are those to the first one.
      claims: what should hold.
      networks: whether the rows differ in their networks, so that parameters and multiply-adds are of interest.
    """

    title: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()
    networks: bool = False


def _better(text: str, row: str, than: str, measure: Measure = "top1") -> Claim:
    lower_is_better = measure == "seconds"
    return Claim(text, {row: -1.0 if lower_is_better else 1.0, than: 1.0 if lower_is_better else -1.0}, measure)


def _progressive(run: Outline, _: Networks) -> Table:
    """Growing images against images of one size, and regularisation that grows with them against a constant one.

    Source: arXiv 2104.00298, section 4 and the ablations of section 6.
    """
    size, strength = (as_in_last_stage(run, names) for names in (["image_size"], STRENGTHS))
    fixed, both = "one size, constant strength", "growing size and strength"
    only_size, only_strength = "growing size, constant strength", "one size, growing strength"
    return Table(
        "Progressive learning",
        (Row(fixed, {**size, **strength}), Row(only_strength, size), Row(only_size, strength), Row(both, {})),
        (
            _better("growing images take less time than images of one size", both, fixed, "seconds"),
            _better("growing images and strengths are more accurate than constant ones", both, fixed),
            _better("with growing images, growing strengths are more accurate than a constant one", both, only_size),
            _better("with images of one size, growing strengths are more accurate", only_strength, fixed),
        ),
    )


def _strength(run: Outline, _: Networks) -> Table:
    """Each of three image sizes with each of three magnitudes of RandAugment, constant during the run.

    Source: arXiv 2104.00298, table 5. Deviation: the sizes and magnitudes are those of the run's first, middle and
    last stage, and the paper's magnitudes 5, 10 and 15 if those are equal.
    """
    stages = run.stages
    some = (stages[0], stages[len(stages) // 2], stages[-1])
    sizes = list(dict.fromkeys(stage.image_size for stage in some))
    magnitudes = list(dict.fromkeys(stage.magnitude for stage in some))
    if len(magnitudes) == 1:
        magnitudes = [5.0, 10.0, 15.0]
    others = as_in_last_stage(run, STRENGTHS)

    def name(size: int, magnitude: float) -> str:
        return f"{size} px, magnitude {magnitude:.3g}"

    rows = tuple(
        Row(
            name(size, magnitude),
            {
                **others,
                **constant("image_size", size),
                **constant("magnitude", magnitude),
                **evaluated_at(run, size),
                "data.augmentation": "randaugment",
            },
            point=(size, magnitude),
        )
        for size in sizes
        for magnitude in magnitudes
    )
    small, large, weak, strong = sizes[0], sizes[-1], magnitudes[0], magnitudes[-1]
    corners = {(large, strong): 1.0, (large, weak): -1.0, (small, strong): -1.0, (small, weak): 1.0}
    claim = Claim(
        "stronger augmentation helps large images more than small ones",
        {name(*corner): weight for corner, weight in corners.items()},
    )
    return Table("Image size and strength of RandAugment", rows, (claim,) if len(sizes) > 1 else ())


def _fused(_: Outline, networks: Networks) -> Table:
    """Fused-MBConv in none, the first three, the first five, and all rows of a network.

    Source: arXiv 2104.00298, table 3.
    """
    base = networks.base
    count = len(base.rows)
    none, early, most, all_rows = "no fused rows", "rows 1–3 fused", "rows 1–5 fused", "all rows fused"
    counts = {none: 0, early: min(3, count), most: min(5, count), all_rows: count}
    return Table(
        f"Fused-MBConv in the rows of {base.name}",
        tuple(Row(name, network(with_fused_rows(base, fused))) for name, fused in counts.items()),
        (
            _better("with fused rows 1–3, steps take less time", early, none, _SPEED),
            _better("with all rows fused, steps take more time than with rows 1–3", early, all_rows, _SPEED),
            _better("fused rows 1–3 are more accurate than none", early, none),
            _better("fused rows 1–3 are more accurate than all", early, all_rows),
        ),
        networks=True,
    )


def _presets(run: Outline, _: Networks) -> Table:
    """The stages of the config, of the official code and of the paper, which give different numbers."""
    rows = (
        Row(AS_CONFIGURED, {}),
        *(Row(f"preset {name}", preset(run, name)) for name in ("official", "paper")),
    )
    return Table("Stages of the official code and of the paper", rows)


class _Part(NamedTuple):
    """A part of the recipe: whether the run has it, and the fields that take it away or add it."""

    name: str
    is_there: bool
    without: Fields
    added: Fields


def _parts_of(run: Outline) -> tuple[_Part, ...]:
    """Returns the parts of a recipe; those that it lacks are added as in the paper's recipe of S, and mixup as of M."""
    config, stages = run.config, run.stages

    def varies(*quantities: str) -> bool:
        return any(getattr(stage, quantity) for stage in stages for quantity in quantities)

    return (
        _Part(
            "RandAugment",
            config.data.augmentation == "randaugment",
            {"data.augmentation": "none"},
            {"data.augmentation": "randaugment", "progressive.magnitude": [5.0, 15.0]},
        ),
        _Part(
            "mixup and CutMix" if varies("cutmix_alpha") else "mixup",
            varies("mixup_alpha", "cutmix_alpha"),
            {**constant("mixup_alpha", 0.0), **constant("cutmix_alpha", 0.0)},
            {"progressive.mixup_alpha": [0.0, 0.2]},
        ),
        _Part(
            "dropout",
            varies("dropout_rate"),
            constant("dropout_rate", 0.0),
            {"progressive.dropout_rate": [0.1, 0.3]},
        ),
        _Part(
            "drop path",
            varies("drop_path_rate"),
            constant("drop_path_rate", 0.0),
            constant("drop_path_rate", 0.2),
        ),
        _Part(
            "label smoothing",
            config.loss.label_smoothing > 0,
            {"loss.label_smoothing": 0.0},
            {"loss.label_smoothing": 0.1},
        ),
    )


def _parts(run: Outline, _: Networks) -> Table:
    """The recipe without one of its parts, or with one that the config leaves out."""
    config = run.config
    rows, claims = [Row(AS_CONFIGURED, {})], []
    if config.ema_decay and config.evaluation.weights == "averaged":
        rows.append(Row("the same, raw weights", {}, "raw"))
        claims.append(_better("averaged weights are more accurate than raw ones", AS_CONFIGURED, rows[-1].name))
    for part in _parts_of(run):
        if part.is_there:
            row = Row(f"without {part.name}", part.without)
            better, than = AS_CONFIGURED, row.name
        else:
            row = Row(f"with {part.name}", part.added)
            better, than = row.name, AS_CONFIGURED
        rows.append(row)
        claims.append(_better(f"{part.name} makes the network more accurate", better, than))
    return Table("Parts of the recipe", tuple(rows), tuple(claims))


def _same_training(_: Outline, networks: Networks) -> Table:
    """Networks that are trained in the same way.

    Source: arXiv 2104.00298, the comparison of V1 and V2 with the same training settings in section 6.
    """
    first, *others = networks.compared
    claims = [
        claim
        for other in others
        for claim in (
            _better(f"steps of {other.name} take less time than those of {first.name}", other.name, first.name, _SPEED),
            _better(f"{other.name} is more accurate than {first.name}", other.name, first.name),
        )
    ]
    rows = tuple(Row(each.name, network(each)) for each in networks.compared)
    return Table("Networks with the same training", rows, tuple(claims), networks=True)


TABLES: Mapping[str, Callable[[Outline, Networks], Table]] = MappingProxyType(
    {
        "networks": _same_training,
        "progressive": _progressive,
        "strength": _strength,
        "fused": _fused,
        "presets": _presets,
        "parts": _parts,
    }
)
"""Name → the table of a run, and of the networks that it is about."""
