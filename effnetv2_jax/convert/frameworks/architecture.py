"""A framework's network of one spec: its name, its arithmetic, and how the framework builds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from effnetv2_jax.model.lax_convolution import Padding


class NoNetwork(Exception):
    """A framework's own network cannot be run here. The message says why."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A framework's network of one spec.

    Attributes:
      name: the framework's name of the network, which is the function that builds it; None if there is no such function
        for this spec.
      padding: the padding that its code uses.
      bn_epsilon: the BatchNorm epsilon that its code uses. Weights give the same logits only with the same padding and
        epsilon.
      preprocessing: the preprocessing family of the weights that the framework publishes.
      eval_size: image size in pixels at which these weights are evaluated.
      arguments: keyword arguments that the function needs, such as timm's `channel_multiplier`.
      reason: why the framework has no name for this spec; empty if it has one.
    """

    name: str | None
    padding: Padding
    bn_epsilon: float
    preprocessing: str
    eval_size: int
    arguments: Mapping[str, float | str] = dataclasses.field(default_factory=dict)
    reason: str = ""

    @property
    def model_fields(self) -> dict[str, object]:
        """The arguments with which `create_model` makes a network that computes the same as the framework's."""
        return {"padding": self.padding, "bn_epsilon": self.bn_epsilon}

    @property
    def call(self) -> str:
        """The call that builds the network, such as `tf_efficientnetv2_b0(channel_multiplier=0.5)`."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return (self.name or "EfficientNet") + (f"({arguments})" if arguments else "")


@dataclasses.dataclass(frozen=True)
class NetworkName:
    """A framework's name of a network with the arguments of the function, or the reason why there is none."""

    name: str | None
    arguments: Mapping[str, float | str] = dataclasses.field(default_factory=dict)
    reason: str = ""
