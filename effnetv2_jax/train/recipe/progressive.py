"""Progressive learning: the image size and the regularisation of each training stage.

Each stage has its own program: everything in a `Stage` is a constant of the compiled step.
"""

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np

from effnetv2_jax.model.specs import ModelSpec


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of training with one image size and one strength of regularisation.

    It covers the steps `first_step` ≤ step < `end_step`. `image_size` is a side in pixels. With `head_only`, only the
    classifier is trained, and the rest of the network runs as in evaluation.
    """

    index: int
    first_step: int
    end_step: int
    image_size: int
    magnitude: float
    mixup_alpha: float
    cutmix_alpha: float
    dropout_rate: float
    drop_path_rate: float
    head_only: bool = False

    @property
    def name(self) -> str:
        """The name of its program, from `stage_1`."""
        return f"stage_{self.index + 1}"

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.end_step - self.first_step


@dataclasses.dataclass
class ProgressiveConfig:
    """The stages of a run: a preset, and the quantities that differ from it.

    A quantity that is given replaces the preset's. It has either one value for each stage, or two: one for the first
    stage and one for the last, between which the other stages are interpolated linearly.

    Attributes:
      preset: `official` (the published code), `paper` (Table 6), or `custom`, which needs `image_size` and takes the
        variant's constant dropout and drop path rates and no augmentation.
      stages: number of stages.
      image_size: side of the training images in pixels.
      magnitude: strength of RandAugment.
      mixup_alpha: α of mixup's distribution Beta(α, α); 0 for no mixup.
      cutmix_alpha: α of CutMix's distribution Beta(α, α); 0 for no CutMix.
      dropout_rate: probability that a pooled feature is dropped.
      drop_path_rate: block i of n, counted from 0, is skipped by an image with the probability drop_path_rate · i / n.
      head_epochs: epochs before the other stages in which only the classifier is trained, as a stage of its own with
        the images of the first one; 0 for none.
    """

    preset: Literal["official", "paper", "custom"] = "official"
    stages: int = 4
    image_size: tuple[int, ...] = ()
    magnitude: tuple[float, ...] = ()
    mixup_alpha: tuple[float, ...] = ()
    cutmix_alpha: tuple[float, ...] = ()
    dropout_rate: tuple[float, ...] = ()
    drop_path_rate: tuple[float, ...] = ()
    head_epochs: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Strength:
    """The regularisation of a variant's last stage."""

    magnitude: float
    alpha: float


# Source: effnetv2_configs.py @6a54c87, `data.ram`, `data.mixup_alpha`, `data.cutmix_alpha`. The other variants are
# trained with AutoAugment, which has no magnitude. With RandAugment they take the values of S.
# Deviation: the official code would lower their magnitude from 5 to 0.
_OFFICIAL: Mapping[str, _Strength] = MappingProxyType(
    {"s": _Strength(10, 0.0), "m": _Strength(15, 0.2), "l": _Strength(20, 0.5), "xl": _Strength(20, 0.5)}
)


@dataclasses.dataclass(frozen=True)
class _PaperRow:
    image_size: int
    magnitude: float
    mixup_alpha: float
    dropout_rate: float


# Source: arXiv 2104.00298, Table 6, columns "max"; the columns "min" are 128, 5, 0 and 0.1. The paper uses no CutMix.
_PAPER: Mapping[str, _PaperRow] = MappingProxyType(
    {"s": _PaperRow(300, 15, 0.0, 0.3), "m": _PaperRow(380, 20, 0.2, 0.4), "l": _PaperRow(380, 25, 0.4, 0.5)}
)

_Values = dict[str, list[float]]


def _letter(spec: ModelSpec) -> str:
    """Returns a variant's size, which names its row in the tables: s, m, l or xl; "" for any other variant.

    The article's variants and scaled variants have the size of the variant that they are derived from.
    """
    name = spec.name.split(" ")[0]
    family, _, letter = name.rpartition("-")
    return letter if family in ("efficientnetv2", "article") and letter in _OFFICIAL else ""


def _official(spec: ModelSpec, stages: int) -> _Values:
    strength = _OFFICIAL.get(_letter(spec), _OFFICIAL["s"])
    sizes = [int(128 + (spec.train_size - 128) * (k + 1) / stages) for k in range(stages)]
    alphas = _interpolated((0.0, strength.alpha), stages)
    return {
        "image_size": [float(size) for size in sizes],
        "magnitude": _interpolated((5.0, strength.magnitude), stages),
        "mixup_alpha": alphas,
        "cutmix_alpha": alphas,
        # The rate is constant: the official code computes a ramp of dropout rates and then discards it.
        "dropout_rate": [spec.dropout_rate] * stages,
        "drop_path_rate": [spec.drop_path_rate] * stages,
    }


def _paper(spec: ModelSpec, stages: int) -> _Values:
    row = _PAPER.get(_letter(spec))
    if row is None:
        raise ValueError(
            f"the paper has no progressive schedule for {spec.name}; only for the sizes {', '.join(_PAPER)}"
        )
    return {
        "image_size": [float(int(size)) for size in _interpolated((128, row.image_size), stages)],
        "magnitude": _interpolated((5.0, row.magnitude), stages),
        "mixup_alpha": _interpolated((0.0, row.mixup_alpha), stages),
        "cutmix_alpha": [0.0] * stages,
        "dropout_rate": _interpolated((0.1, row.dropout_rate), stages),
        "drop_path_rate": [spec.drop_path_rate] * stages,
    }


def _custom(spec: ModelSpec, stages: int) -> _Values:
    return {
        "image_size": [],
        "magnitude": [0.0] * stages,
        "mixup_alpha": [0.0] * stages,
        "cutmix_alpha": [0.0] * stages,
        "dropout_rate": [spec.dropout_rate] * stages,
        "drop_path_rate": [spec.drop_path_rate] * stages,
    }


PRESETS = MappingProxyType({"official": _official, "paper": _paper, "custom": _custom})

# Each quantity's lowest and highest allowed value, and whether the highest itself is allowed.
_LIMITS = MappingProxyType(
    {
        "magnitude": (0.0, 40.0, True),
        "mixup_alpha": (0.0, 100.0, True),
        "cutmix_alpha": (0.0, 100.0, True),
        "dropout_rate": (0.0, 1.0, False),
        "drop_path_rate": (0.0, 1.0, False),
    }
)


def make_stages(
    config: ProgressiveConfig, spec: ModelSpec, total_steps: int, steps_per_epoch: float = 1.0
) -> tuple[Stage, ...]:
    """Returns the stages of a run of `total_steps`, which have equal numbers of steps up to rounding.

    A single stage takes the last value of each quantity. A stage for the classifier alone comes before them.

    Raises:
      ValueError: for a preset without stages for the variant, a wrong number of values, a value out of
        its limits, images too small for the network, or more stages than steps.
    """
    if not 0 <= config.head_epochs < math.inf:
        raise ValueError(f"progressive.head_epochs must be finite and at least 0, got {config.head_epochs}")
    head_steps = max(1, round(config.head_epochs * steps_per_epoch)) if config.head_epochs else 0
    steps = total_steps - head_steps
    if head_steps and steps < 1:
        raise ValueError(
            f"progressive.head_epochs {config.head_epochs:g} is {head_steps:,} steps, which leaves none of the run's "
            f"{total_steps:,} for the rest of the network"
        )
    if not 1 <= config.stages <= steps:
        raise ValueError(f"stages must be between 1 and the number of steps ({steps}), got {config.stages}")
    values = PRESETS[config.preset](spec, config.stages)
    for name in values:
        if override := getattr(config, name):
            values[name] = _stage_values(name, override, config.stages)
    _check(values, spec)
    ends = [head_steps + steps * (k + 1) // config.stages for k in range(config.stages)]
    stages = [
        Stage(
            index=k + (head_steps > 0),
            first_step=ends[k - 1] if k else head_steps,
            end_step=ends[k],
            image_size=int(values["image_size"][k]),
            head_only=False,
            **{name: values[name][k] for name in _LIMITS},
        )
        for k in range(config.stages)
    ]
    if head_steps:
        head = dataclasses.replace(
            stages[0], index=0, first_step=0, end_step=head_steps, drop_path_rate=0.0, head_only=True
        )
        stages.insert(0, head)
    return tuple(stages)


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """Returns the stage that a step belongs to, or the last stage once the run is finished."""
    index = bisect.bisect_right([stage.end_step for stage in stages], step)
    return stages[min(index, len(stages) - 1)]


def _interpolated(ends: Sequence[float], stages: int) -> list[float]:
    """Returns one value for each stage, from the first to the last of `ends`; a single stage gets the last."""
    return [float(value) for value in np.linspace(ends[0], ends[-1], stages)] if stages > 1 else [float(ends[-1])]


def _stage_values(name: str, values: Sequence[float], stages: int) -> list[float]:
    if len(values) == stages:
        return [float(value) for value in values]
    if len(values) == 2:
        return _interpolated(values, stages)
    raise ValueError(
        f"progressive.{name} takes 2 values (first, last) or one for each of {stages} stages, got {values}"
    )


def _check(values: _Values, spec: ModelSpec) -> None:
    if not values["image_size"]:
        raise ValueError("the preset 'custom' needs progressive.image_size, as in (128, 224)")
    for size in values["image_size"]:
        if size < spec.minimum_image_size:
            raise ValueError(
                f"{spec.name} needs images of at least {spec.minimum_image_size} px, "
                f"got progressive.image_size {size:g}"
            )
    for name, (lowest, highest, inclusive) in _LIMITS.items():
        for value in values[name]:
            if not (lowest <= value < highest or (inclusive and value == highest)):
                bracket = "]" if inclusive else ")"
                raise ValueError(f"progressive.{name} must lie in [{lowest:g}, {highest:g}{bracket}, got {value:g}")
