"""What the rows of the ablation tables change in a run, as fields of its config."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from effnetv2_jax.ablation.outline import Fields, Outline
from effnetv2_jax.model.spec_file import spec_text
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig, Stage, make_stages

STRENGTHS = ("magnitude", "mixup_alpha", "cutmix_alpha", "dropout_rate", "drop_path_rate")
"""The quantities of a stage that regularise."""

# BatchNorm's momentum that a preset's source gives. Source: the official code; arXiv 2104.00298, section 5.1.
_MOMENTUM = {"official": 0.9, "paper": 0.99}


def constant(quantity: str, value: float) -> Fields:
    """Returns the fields that give a quantity the same value in every stage."""
    return {f"progressive.{quantity}": [value, value]}


def as_in_last_stage(run: Outline, quantities: Sequence[str]) -> Fields:
    """Returns the fields that give every stage the last one's values of some quantities."""
    last = run.stages[-1]
    changes = [constant(quantity, getattr(last, quantity)) for quantity in quantities]
    return {name: value for change in changes for name, value in change.items()}


def evaluated_at(run: Outline, image_size: int) -> Fields:
    """Returns the fields that evaluate images as many times as large as the training images as in the run itself.

    Args:
      run: the run.
      image_size: side of the training images in pixels.
    """
    eval_size = round(run.eval_size * image_size / run.stages[-1].image_size)
    return {"evaluation.image_size": max(eval_size, run.spec.minimum_image_size)}


def network(spec: ModelSpec) -> Fields:
    """Returns the fields that give a run another network."""
    return {"model.variant": spec_text(spec), "model.width": 1.0, "model.depth": 1.0}


def with_fused_rows(spec: ModelSpec, count: int) -> ModelSpec:
    """Returns a network whose first rows have Fused-MBConv blocks, and whose other rows have MBConv blocks.

    The fused blocks have no squeeze and excitation and keep the kernels. So a fused V1-B4 has as many parameters as
    in the paper's table 3: 43.5 M with five fused rows and 132.1 M with all seven, where it gives 43.4 and 132.0.
    """
    rows = tuple(
        dataclasses.replace(row, kind="fused", se_ratio=0.0)
        if number < count
        else dataclasses.replace(row, kind="mbconv")
        for number, row in enumerate(spec.rows)
    )
    return dataclasses.replace(spec, name=f"{spec.name}, {count} fused rows", rows=rows, top1=None, top1_21k=None)


def preset(run: Outline, name: str) -> Fields:
    """Returns the fields that give a run the stages of a preset, scaled to the image size of its last stage.

    The presets are those of the run's variant, or of S if the paper gives none for it. A run that has exactly these
    stages already is not changed.
    """
    own = run.config.progressive
    if own == ProgressiveConfig(preset=name, stages=own.stages):  # type: ignore[arg-type]
        return {}
    stages = _preset_stages(run.spec, name, own.stages)
    factor = run.stages[-1].image_size / stages[-1].image_size
    least = run.spec.minimum_image_size
    return {
        "progressive.preset": "custom",
        "progressive.image_size": [max(least, round(factor * stage.image_size)) for stage in stages],
        **{f"progressive.{each}": [getattr(stage, each) for stage in stages] for each in STRENGTHS},
        "model.bn_momentum": _MOMENTUM[name],
    }


def _preset_stages(spec: ModelSpec, name: str, count: int) -> tuple[Stage, ...]:
    try:
        make_stages(ProgressiveConfig(preset="paper", stages=count), spec, count)
    except ValueError:
        spec = VARIANTS["efficientnetv2-s"]
    return make_stages(ProgressiveConfig(preset=name, stages=count), spec, count)  # type: ignore[arg-type]
