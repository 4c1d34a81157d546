"""One training step of any network, as a config of its own."""

from __future__ import annotations

import dataclasses

from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig
from effnetv2_jax.train.tuned_programs import NONE


def side_of_row(spec: ModelSpec, image_size: int, row: int) -> int:
    """Returns the side in pixels of a row's output for images of a size."""
    side = -(-image_size // 2)
    for each in spec.rows[: row + 1]:
        side = -(-side // each.stride)
    return side


def config_of_step(config: TrainConfig, spec: ModelSpec, image_size: int) -> TrainConfig:
    """Returns a config of one training step of a spec, with everything else as in a run."""
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model.with_spec(spec), remat=()),
        progressive=ProgressiveConfig(preset="custom", stages=1, image_size=(image_size,)),
        evaluation=dataclasses.replace(config.evaluation, image_size=image_size),
        accumulation_steps="1",
        tuning=NONE,
        steps=1,
    )
