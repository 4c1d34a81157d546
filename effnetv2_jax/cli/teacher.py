"""The network that a run learns from: `distillation` of its config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.data.images.families import preprocessing_family

if TYPE_CHECKING:
    from effnetv2_jax.train.config import TrainConfig
    from effnetv2_jax.train.recipe.distillation import Teacher


def load_teacher(config: TrainConfig) -> Teacher | None:
    """Returns the teacher that a config names, with its averaged weights if it has any, or None if it names none.

    Raises:
      ValueError: if its file is damaged, or does not record what is needed to use it.
      OSError: if its file does not exist or cannot be read.
    """
    from effnetv2_jax.train.recipe.distillation import Teacher

    if not config.distillation.teacher:
        return None
    framework: Any = config.distillation.framework or None
    weights = load_weights(config.distillation.teacher, framework=framework)
    family = preprocessing_family(weights.provenance.preprocessing)
    return Teacher(weights.model(dtype=config.model.dtype), family, weights.variables)
