"""One candidate: its price is kept, it is stopped if hopeless, and a failure is a result."""

import json

import pytest
from search.networks import BASE, result, settings

from effnetv2_jax.model.spec_file import spec_text
from effnetv2_jax.model.summary import count_parameters
from effnetv2_jax.search import candidate
from effnetv2_jax.search.candidate import Bar, run_candidate
from effnetv2_jax.search.folder import Task
from effnetv2_jax.search.results import Proposal
from effnetv2_jax.train.devices.memory import DeviceMemoryError
from effnetv2_jax.train.run.divergence import Diverged

TASK = Proposal(7, {})
KNOWN = [result(number, 40.0 + number) for number in range(8)]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains with an invented trainer that evaluates twice: `run(top1, top1)`."""

    def run(*tops, error=None, bar=None, price=lambda spec: 0.01):
        seen = []

        def train(config, workdir, judge, own_process):
            seen.append(config.model)
            assert (workdir, own_process) == (str(tmp_path / "run"), False)
            (tmp_path / "run/checkpoints/4").mkdir(parents=True)
            (tmp_path / "run/metrics.jsonl").write_text("")
            for step, top1 in zip((4, 8), tops, strict=False):
                judge(step, {"averaged": {"top1": top1}, "raw": {"top1": 0.0}})
            if error:
                raise error

        monkeypatch.setattr(candidate, "train", train)
        task = Task(tmp_path, TASK, spec_text(BASE))
        found = run_candidate(settings().train_config(), task, 10, price, bar or Bar((), 25.0))
        return found, seen

    return run


def test_the_result_has_the_curve_the_price_and_the_parameters(trained, tmp_path):
    found, (model,) = trained(30.0, 60.0)
    assert (found.curve, found.top1, found.stopped, found.failed) == (((4, 30.0), (8, 60.0)), 60.0, False, "")
    assert (found.step_seconds, found.parameters) == (0.01, count_parameters(BASE, 10))
    assert model.spec() == BASE
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_hopeless_candidate_is_stopped_and_a_good_one_is_not(trained):
    found, _ = trained(5.0, 60.0, bar=Bar(KNOWN, 25.0))
    assert found.stopped
    assert found.curve == ((4, 5.0),)


@pytest.mark.parametrize("bar", [Bar(KNOWN, 0.0), Bar(KNOWN[:4], 25.0), Bar([], 25.0)])
def test_without_enough_to_compare_with_nothing_is_stopped(trained, bar):
    found, _ = trained(1.0, 2.0, bar=bar)
    assert not found.stopped


def test_the_bar_is_a_percentile_of_the_rewards_at_the_same_step():
    assert not Bar(KNOWN, 25.0).is_below(result(9, 42.0))
    assert Bar(KNOWN, 25.0).is_below(result(9, 41.0))
    assert Bar(KNOWN, 25.0).is_below(result(9, 42.0, step_seconds=0.05))  # as accurate, but slower
    assert not Bar(KNOWN, 25.0).is_below(result(9, 41.0, step_seconds=0.005))


def test_before_its_first_step_the_bar_does_not_count(trained):
    late = Bar(KNOWN, 25.0, first_step=8.0)
    found, _ = trained(5.0, 60.0, bar=late)
    assert not found.stopped
    assert not late.is_below(result(9, 41.0))
    assert Bar(KNOWN, 25.0, first_step=4.0).is_below(result(9, 41.0))


def test_a_process_that_takes_over_keeps_the_price_and_knows_the_curve(trained, tmp_path):
    (tmp_path / "price.json").write_text('{"step_seconds": 0.5}')
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.jsonl").write_text(json.dumps({"step": 4, "averaged/top1": 1.0, "raw/top1": 2.0}) + "\n")
    found, seen = trained(bar=Bar(KNOWN, 25.0))
    assert (found.step_seconds, found.stopped, found.curve) == (0.5, True, ((4, 1.0),))
    assert seen == []


@pytest.mark.parametrize("error", [Diverged("the loss is nan"), DeviceMemoryError(needed=2, available=1)])
def test_a_run_that_cannot_end_is_a_result_without_accuracy(trained, error):
    found, _ = trained(30.0, error=error)
    assert found.failed == str(error)
    assert (found.top1, found.reward) == (0.0, 0.0)


def test_a_step_that_does_not_fit_is_not_trained(trained):
    def price(_):
        raise DeviceMemoryError(needed=2, available=1)

    found, seen = trained(price=price)
    assert found.failed
    assert seen == []


@pytest.mark.parametrize("content", ['{"step_seconds": 0}', '{"step_seconds": "fast"}', "{}"])
def test_a_damaged_price_is_named(trained, tmp_path, content):
    (tmp_path / "price.json").write_text(content)
    with pytest.raises(ValueError, match=r"price\.json is damaged"):
        trained(1.0)
