"""The weights that a run starts from: `init_from` and `init_source` of its config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from effnetv2_jax.convert.names import SOURCES
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2

if TYPE_CHECKING:
    from effnetv2_jax.train.config import TrainConfig
    from effnetv2_jax.train.trainer import InitialVariables


def initial_variables(config: TrainConfig) -> InitialVariables | None:
    """Returns how a new run gets its variables; None for fresh ones.

    Raises:
      ValueError: if the config leaves the weights to be named, or names an unknown source.
    """
    from effnetv2_jax.train.config import WEIGHTS_TO_NAME

    if not config.init_from:
        return None
    if config.init_from == WEIGHTS_TO_NAME:
        raise ValueError(
            "this config starts from weights: name them, as in --config.init_from=efficientnetv2-s.tgz "
            "--config.init_source=official, or start from fresh ones with --config.init_from="
        )
    if config.init_source not in SOURCES:
        raise ValueError(f"unknown init_source {config.init_source!r}; known sources: {', '.join(SOURCES)}")
    return lambda model: _loaded(config, model)


def _loaded(config: TrainConfig, model: EfficientNetV2) -> dict[str, Any]:
    """Returns the averaged weights, with a new classifier where the classes differ, and says what came from where."""
    from effnetv2_jax.train.run.processes import is_first

    source: Any = config.init_source
    weights = load_weights(config.init_from, model.spec, source=source, seed=config.seed)
    if weights.provenance.num_classes != model.num_classes:
        weights = load_weights(
            config.init_from, model.spec, source=source, new_head=model.num_classes, seed=config.seed
        )
    facts = weights.provenance
    if facts.padding != model.padding:
        raise ValueError(
            f"{config.init_from} was trained with padding {facts.padding!r} and the model has {model.padding!r}: "
            f"add --config.model.padding={facts.padding}"
        )
    new = f"; new: {', '.join(weights.new)}" if weights.new else ""
    told = f"{len(weights.loaded)} tensors come from {config.init_from} ({facts.averaging} weights){new}"
    if is_first():
        print(*weights.notes, told, sep="\n")
    return weights.variables
