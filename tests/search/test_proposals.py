"""Proposals: the same for the same seed, number and results, and better than chance with evolution and NSGA-II."""

import pytest

pytest.importorskip("optuna")

from search.networks import outcome, settings

from effnetv2_jax.search.proposals import propose

METHODS = ("random", "evolution", "nsga2")


def searched(count, **changes):
    """Returns the results of a search by invented accuracies and times."""
    chosen = settings(samples=count, population=8, **changes)
    results = []
    for number in range(count):
        proposal = propose(chosen, number, results[: chosen.needed(number)])
        results.append(outcome(chosen.space, proposal))
    return results


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_search_and_another_seed_another(method):
    first, again, other = (searched(14, method=method, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first[0] != other[0]
    assert len({str(each.proposal.params) for each in first}) > 10


@pytest.mark.parametrize("method", METHODS)
def test_a_candidate_depends_only_on_those_that_are_old_enough(method):
    chosen = settings(method=method, at_once=3, population=4)
    assert [chosen.needed(number) for number in range(6)] == [0, 0, 0, 1, 2, 3]
    results = searched(8, method=method, at_once=3)
    assert results == searched(8, method=method, at_once=3)
    assert all(
        choice in values
        for choice, values in zip(results[-1].proposal.params.values(), chosen.space.choices().values(), strict=True)
    )


def test_evolution_changes_one_choice_of_a_young_candidate():
    results = searched(20, method="evolution")
    for number in range(8, 20):
        differences = [
            sum(results[number].proposal.params[name] != value for name, value in older.proposal.params.items())
            for older in results[number - 8 : number]
        ]
        assert min(differences) == 1


def test_nsga2_makes_generations():
    results = searched(20, method="nsga2")
    generations = [each.proposal.attributes["NSGAIISampler:generation"] for each in results]
    assert generations == [number // 8 for number in range(20)]


def test_evolution_raises_the_reward_of_its_population():
    for seed in range(2):
        rewards = [each.reward for each in searched(48, method="evolution", seed=seed)]
        assert sum(rewards[-8:]) > sum(rewards[:8])
        assert min(rewards[-8:]) > sorted(rewards[:8])[4]
