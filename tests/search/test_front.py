"""The Pareto front, the best network, and the report of a search."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from search.networks import result, settings

from effnetv2_jax.cli.main import main
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.search.folder import SearchFolder
from effnetv2_jax.search.front import best, figures, pareto_front
from effnetv2_jax.search.results import Proposal
from effnetv2_jax.search.reward import reward
from effnetv2_jax.train.run_folder.json_file import write_json

points = st.lists(
    st.builds(result, st.integers(0, 99), st.floats(1, 99), st.floats(1e-3, 1.0), st.integers(10**5, 10**7))
)


@hypothesis_settings(deadline=None)
@given(points)
def test_nothing_beats_a_network_of_the_front_and_something_every_other(results):
    front = pareto_front(results)

    def beats(one, other):
        return (
            one.top1 >= other.top1
            and one.step_seconds <= other.step_seconds
            and ((one.top1, one.step_seconds) != (other.top1, other.step_seconds))
        )

    assert not [each for each in front if any(beats(other, each) for other in results)]
    places = {(each.top1, each.step_seconds) for each in front}
    for each in results:
        assert (each.top1, each.step_seconds) in places or any(beats(other, each) for other in front)


def test_networks_that_failed_or_were_stopped_are_neither_best_nor_on_the_front():
    good, stopped, failed = result(0, 50.0), result(1, 99.0, stopped=True), result(2, 99.0, failed="it diverged")
    assert pareto_front([good, stopped, failed]) == [good]
    assert best([good, stopped, failed]) is good
    assert best([stopped]) is None
    assert {row["state"] for row in figures([good, stopped, failed], [])} == {"front", "stopped early", "failed"}
    assert failed.top1 == 0


def test_the_reward_is_the_paper_s():
    assert reward(80.0, 0.001, 10**6) == pytest.approx(0.8)
    assert reward(80.0, 0.002, 10**6) == pytest.approx(0.8 * 2**-0.07)
    assert reward(80.0, 0.001, 4 * 10**6) == pytest.approx(0.8 * 4**-0.05)


@pytest.fixture
def folder(tmp_path):
    """A search with four results and two networks to compare with."""
    folder = SearchFolder(str(tmp_path / "search"))
    folder.begin(settings())
    for number, (top1, seconds) in enumerate([(60.0, 0.02), (70.0, 0.03), (50.0, 0.04), (55.0, 0.01)]):
        place = folder.path / "candidates" / f"{number:04d}"
        place.mkdir(parents=True)
        write_json(place / "candidate.json", {"number": number, "params": {}, "attributes": {}})
        write_json(place / "result.json", result(number, top1, seconds, stopped=number == 2).to_json())
    for name in ("one", "two"):
        place = folder.path / "references" / name
        place.mkdir(parents=True)
        write_json(place / "result.json", result(-1, 65.0, 0.015).to_json())
    return folder


def test_the_report_has_a_table_pictures_and_specs(folder, capsys):
    assert main(["search", "report", str(folder.path)]) == 0
    out = capsys.readouterr().out
    assert "evolution: 4 of 4 candidates" in out
    assert "3 on the Pareto front, 1 stopped early, 0 failed" in out
    report = folder.path / "report"
    assert {each.name for each in report.iterdir()} == {
        *("report.json", "front.png", "best.json", "best.png"),
        *("candidate_0000.json", "candidate_0001.json", "candidate_0003.json", "candidate_-1.json"),
    }
    assert get_spec(str(report / "best.json")).name == "best"
    rows = json.loads((report / "report.json").read_text())["networks"]
    assert [row["state"] for row in rows].count("to compare with") == 2
    assert [row["reward"] for row in rows] == sorted((row["reward"] for row in rows), reverse=True)


def test_the_report_is_printed_as_json(folder, capsys):
    assert main(["search", "report", str(folder.path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 6


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["report", "{empty}"], "contains no search", 1),
        (["report", "{folder}", "--seed", "1"], "report takes no option but --json and --whole-programs", 2),
        (["report", "{folder}", "--whole-programs"], "were timed as whole programs", 2),
        (["run", "{folder}", "--json"], "go with report", 2),
        (["run", "{empty}"], "a new search needs --config", 2),
        (["run", "{folder}", "--seed", "1"], "the search in DIR goes on with its own settings", 2),
        (["run", "{empty}", "--config", "smoke", "--base", "b9"], "unknown variant 'b9'", 2),
        (["run", "{empty}", "--config", "smoke", "--topology", "v9"], "unknown TPU 'v9'", 2),
        (["run", "{folder}", "--config", "smoke", "--seed", "1"], "contains a search with other settings", 1),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(folder, tmp_path, capsys, arguments, said, code):
    words = [word.format(folder=folder.path, empty=tmp_path / "empty") for word in arguments]
    assert main(["search", *words]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "empty").exists()


def test_a_search_without_any_result_is_said_so(tmp_path, capsys):
    folder = SearchFolder(str(tmp_path))
    folder.begin(settings())
    assert main(["search", "report", str(tmp_path)]) == 1
    assert "no network is finished yet" in capsys.readouterr().err
    assert Proposal(0, {}).attributes == {}
