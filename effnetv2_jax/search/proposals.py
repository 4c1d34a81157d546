"""How a search proposes candidates: a function of its seed, the candidate's number and the results before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import optuna

from effnetv2_jax.search.results import Proposal, Result
from effnetv2_jax.search.settings import SearchSettings

_TOURNAMENT = 0.25
"""The share of the population that a parent is the best of. Source: Real et al., arXiv 1802.01548: 25 of 100."""


class RegularisedEvolution(optuna.samplers.BaseSampler):
    """Changes one choice of the best of some of the youngest candidates; the oldest are forgotten.

    Optuna has no such sampler. Source: Real et al., Regularized Evolution, arXiv 1802.01548, algorithm 1.
    """

    def __init__(self, population: int, seed: int) -> None:
        self._population = population
        self._rng = np.random.default_rng(seed)
        self._first = optuna.samplers.RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: Any) -> dict[str, Any]:  # noqa: ARG002
        """Returns nothing before the population is whole, so that the first candidates are random."""
        trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        return dict(trials[-1].distributions) if len(trials) >= self._population else {}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: Any,  # noqa: ARG002
        search_space: dict[str, Any],
    ) -> dict[str, Any]:
        """Returns the child of a tournament."""
        if not search_space:
            return {}
        youngest = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))[-self._population :]
        count = max(2, round(_TOURNAMENT * self._population))
        drawn = [youngest[index] for index in self._rng.choice(len(youngest), count, replace=False)]
        child = dict(max(drawn, key=lambda each: each.values[0]).params)
        open_ = sorted(name for name, distribution in search_space.items() if len(distribution.choices) > 1)
        name = open_[self._rng.integers(len(open_))]
        others = [value for value in search_space[name].choices if value != child[name]]
        return child | {name: others[self._rng.integers(len(others))]}

    def sample_independent(self, study: optuna.Study, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """Returns a random choice."""
        return self._first.sample_independent(study, trial, param_name, param_distribution)


# Method → its sampler, made of the size of the population and a seed.
_SAMPLERS: Mapping[str, Callable[[int, int], optuna.samplers.BaseSampler]] = MappingProxyType(
    {
        "random": lambda population, seed: optuna.samplers.RandomSampler(seed=seed),
        "evolution": RegularisedEvolution,
        "nsga2": lambda population, seed: optuna.samplers.NSGAIISampler(population_size=population, seed=seed),
    }
)
_TRIES = 10
_FRONT = ("nsga2",)
"""Methods that weigh accuracy, step time and parameters themselves, instead of the reward."""


def propose(settings: SearchSettings, number: int, known: Sequence[Result]) -> Proposal:
    """Returns the proposal of a candidate, which is none of the known ones if a few tries find another.

    Args:
      settings: the search.
      number: the number of the candidate, from 0.
      known: the results of the candidates before it, as many as `settings.needed` says.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tried = [dict(result.proposal.params) for result in known]
    proposal = _proposal(settings, number, known, 0)
    for attempt in range(1, _TRIES):
        if dict(proposal.params) not in tried:
            break
        proposal = _proposal(settings, number, known, attempt)
    return proposal


def _proposal(settings: SearchSettings, number: int, known: Sequence[Result], attempt: int) -> Proposal:
    seed = int(np.random.SeedSequence([settings.seed, number, attempt]).generate_state(1)[0])
    several = settings.method in _FRONT
    study = optuna.create_study(  # in memory: the folder of the search is what survives
        directions=["maximize", "minimize", "minimize"] if several else ["maximize"],
        sampler=_SAMPLERS[settings.method](settings.population, seed),
    )
    distributions: dict[str, Any] = {
        name: optuna.distributions.CategoricalDistribution(values) for name, values in settings.space.choices().items()
    }
    for result in known:
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(result.proposal.params),
                distributions=distributions,
                values=[result.top1, result.step_seconds, float(result.parameters)] if several else [result.reward],
                system_attrs=dict(result.proposal.attributes),
            )
        )
    study.ask(fixed_distributions=distributions)
    trial = study.get_trials(deepcopy=False)[-1]
    return Proposal(number, {name: trial.params[name] for name in distributions}, dict(trial.system_attrs))
