"""What is known of a candidate: what was proposed, and what came of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.search.reward import reward
from effnetv2_jax.search.space import Params


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A candidate before it is trained.

    Attributes:
      number: its number, from 0; -1 for a network to compare with.
      params: what was chosen, see `SearchSpace.choices`; nothing for a network to compare with.
      attributes: what the method notes for itself, such as the generation.
    """

    number: int
    params: Params
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a candidate.

    Attributes:
      proposal: what was proposed.
      spec: the network, as the text of a spec.
      step_seconds: seconds of a training step.
      parameters: number of parameters.
      curve: the step and the top-1 in per cent of each evaluation.
      stopped: whether it was stopped early, since it was hopeless.
      failed: why it has no accuracy, if it diverged or did not fit the memory; "" otherwise.
    """

    proposal: Proposal
    spec: str
    step_seconds: float
    parameters: int
    curve: tuple[tuple[int, float], ...] = ()
    stopped: bool = False
    failed: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the network was trained to the end."""
        return not (self.failed or self.stopped)

    @property
    def top1(self) -> float:
        """Top-1 in per cent at the last evaluation; 0 if it failed."""
        return self.curve[-1][1] if self.curve and not self.failed else 0.0

    @property
    def reward(self) -> float:
        """The reward of the last evaluation."""
        return reward(self.top1, self.step_seconds, self.parameters)

    def reward_at(self, step: int) -> float | None:
        """Returns the reward at a step; None if it was not evaluated there."""
        top1 = dict(self.curve).get(step)
        return None if top1 is None or self.failed else reward(top1, self.step_seconds, self.parameters)

    def network(self) -> ModelSpec:
        """Returns the network."""
        return get_spec(self.spec)

    def to_json(self) -> dict[str, Any]:
        """Returns the result as JSON values."""
        return dataclasses.asdict(self)


def result_from_json(content: Mapping[str, Any]) -> Result:
    """Returns the result that `Result.to_json` was called on.

    Raises:
      ValueError: if it is damaged.
    """
    try:
        result = Result(
            **{
                **content,
                "proposal": Proposal(**content["proposal"]),
                "curve": tuple((int(step), float(top1)) for step, top1 in content["curve"]),
            }
        )
        numbers = (result.step_seconds, result.parameters, *(top1 for _, top1 in result.curve))
        if not all(type(each) in (int, float) and math.isfinite(each) for each in numbers):
            raise ValueError("a number is missing or not finite")
        if result.step_seconds <= 0 or result.parameters <= 0:
            raise ValueError("a step must take time, and a network must have parameters")
        result.network()
    except (KeyError, TypeError) as error:
        raise ValueError(f"a field is missing or wrong: {error}") from None
    return result
