"""The settings of a search, as its folder records them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from effnetv2_jax.config_fields import check_types, from_json
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.search.space import SearchSpace
from effnetv2_jax.train.config import TrainConfig, unflatten

Method = Literal["random", "evolution", "nsga2"]

REFERENCES = ("efficientnet-b0", "efficientnetv2-b0", "efficientnetv2-s")
"""Variants that are trained and priced like the candidates, to compare with."""


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """What determines a search: with the same settings, the same networks are tried.

    Attributes:
      config: the fields of the run that trains each candidate, by dotted name; its network is replaced.
      base: the base of the search space, as the text of a spec.
      method: `random`, regularised `evolution`, or `nsga2`, which looks for the whole front instead of the best reward.
      samples: number of candidates.
      seed: seed of the proposals.
      population: candidates that the next ones are made from, in `evolution` and `nsga2`.
      at_once: candidates that may be trained at the same time: each is proposed from the results of those that are this
        much older, however many processes there are.
      stop_below: percentile of the rewards at the same step below which a candidate is stopped; 0 for never.
      stop_after: share of a run's steps before which no candidate is stopped.
      topology: the TPU slice that steps are estimated for; "" to time them on the devices of the machine.
      references: networks to compare with, as texts of specs.
    """

    config: Mapping[str, Any]
    base: str
    method: Method = "evolution"
    samples: int = 100
    seed: int = 0
    population: int = 16
    at_once: int = 1
    stop_below: float = 25.0
    stop_after: float = 0.5
    topology: str = ""
    references: tuple[str, ...] = ()

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return SearchSpace(get_spec(self.base))

    def train_config(self) -> TrainConfig:
        """Returns the config of the runs, with the network of the config that the search was started with."""
        return unflatten(self.config)

    def needed(self, number: int) -> int:
        """Returns how many candidates, from the first, must have results before a candidate can be proposed."""
        return max(0, number - self.at_once + 1)


def settings_from_json(content: Mapping[str, Any]) -> SearchSettings:
    """Returns the settings that a folder records.

    Raises:
      ValueError: if they are damaged or out of range; the message names the field.
    """
    settings = from_json(SearchSettings, content, "a search")
    check_settings(settings)
    return settings


def check_settings(settings: SearchSettings) -> None:
    """Checks the settings of a search.

    Raises:
      ValueError: if one is out of range; the message names it, its value and what is allowed.
    """
    check_types(settings)
    for name, least in {"samples": 1, "seed": 0, "population": 2, "at_once": 1}.items():
        if getattr(settings, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(settings, name)}")
    if not 0 <= settings.stop_below < 100:
        raise ValueError(f"stop_below must be at least 0 and less than 100, got {settings.stop_below}")
    if not 0 <= settings.stop_after <= 1:
        raise ValueError(f"stop_after must be from 0 to 1, got {settings.stop_after}")
    for text in (settings.base, *settings.references):
        get_spec(text)
