"""The weights that a run starts from: `init_from` and `init_framework` of its config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from effnetv2_jax.convert.frameworks.table import framework_names
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2

if TYPE_CHECKING:
    from effnetv2_jax.train.config import TrainConfig
    from effnetv2_jax.train.trainer import InitialVariables


_FRESH = "for fresh weights, pass --config.init_from="


def initial_variables(config: TrainConfig) -> InitialVariables | None:
    """Returns the function that gives a new run its variables, or None if they are fresh.

    Raises:
      ValueError: if `init_from` is still the placeholder, or `init_framework` is unknown.
    """
    from effnetv2_jax.train.config import WEIGHTS_TO_NAME

    if not config.init_from:
        return None
    if config.init_from == WEIGHTS_TO_NAME:
        raise ValueError(
            "there are no published weights of this variant, so name some, as in --config.init_from=weights.pth; "
            f"{_FRESH}"
        )
    if config.init_framework and config.init_framework not in framework_names():
        known = ", ".join(framework_names())
        raise ValueError(f"unknown init_framework {config.init_framework!r}; known frameworks: {known}")
    return lambda model: _loaded(config, model)


def _loaded(config: TrainConfig, model: EfficientNetV2) -> dict[str, Any]:
    """Returns the averaged weights, or the raw ones if there are no others, and prints where they come from.

    The classifier is fresh if the number of classes differs.
    """
    from effnetv2_jax.train.run.processes import is_first

    framework: Any = config.init_framework or None
    try:
        weights = load_weights(
            config.init_from, model.spec, framework=framework, num_classes=model.num_classes, seed=config.seed
        )
    except ConnectionError as error:
        raise ConnectionError(f"{error}; {_FRESH}") from error
    provenance = weights.provenance
    if provenance.padding != model.padding:
        raise ValueError(
            f"{config.init_from} was trained with padding {provenance.padding!r} and the model has {model.padding!r}; "
            f"pass --config.model.padding={provenance.padding}"
        )
    new = f"; new: {', '.join(weights.new)}" if weights.new else ""
    if is_first():
        print(*weights.notes, sep="\n", end="\n" if weights.notes else "")
        print(f"{len(weights.loaded)} tensors come from {config.init_from} ({provenance.averaging} weights){new}")
    return weights.variables
