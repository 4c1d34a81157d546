"""The folder of a search: who takes which network, and what survives a process."""

import dataclasses
import json

import pytest
from search.networks import result, settings

from effnetv2_jax.model.spec_file import spec_text
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.search.folder import SearchFolder
from effnetv2_jax.search.results import Proposal

REFERENCE = spec_text(VARIANTS["efficientnetv2-b0"].scaled(0.25, 0.1))


def propose(chosen, number, known):
    """Proposes the first choice of everything, and notes what was known."""
    return Proposal(number, {name: values[0] for name, values in chosen.space.choices().items()}, {"known": len(known)})


@pytest.fixture
def folder(tmp_path):
    return SearchFolder(str(tmp_path / "search"))


def test_references_come_first_and_then_candidates_one_after_another(folder):
    chosen = folder.begin(settings(samples=2, references=(REFERENCE,)))
    numbers = []
    while not folder.is_over(chosen):
        with folder.taken(chosen, propose) as task:
            numbers.append(task.proposal.number)
            folder.finish(task, dataclasses.replace(result(task.proposal.number), proposal=task.proposal))
    assert numbers == [-1, 0, 1]
    assert [each.proposal.number for each in folder.results()] == [0, 1]
    assert [each.proposal.attributes["known"] for each in folder.results()] == [0, 1]
    with folder.taken(chosen, propose) as task:
        assert task is None


def test_two_processes_never_have_the_same_network_and_wait_for_what_they_need(folder):
    chosen = folder.begin(settings(samples=9, at_once=2))
    other = SearchFolder(str(folder.path))
    with folder.taken(chosen, propose) as first, other.taken(chosen, propose) as second:
        assert (first.proposal.number, second.proposal.number) == (0, 1)
        with SearchFolder(str(folder.path)).taken(chosen, propose) as third:
            assert third is None  # number 2 needs the result of number 0
        folder.finish(first, result(0))
        with SearchFolder(str(folder.path)).taken(chosen, propose) as third:
            assert third.proposal.number == 2


def test_the_network_of_a_process_that_is_gone_is_taken_over(folder):
    chosen = folder.begin(settings())
    with folder.taken(chosen, propose) as task:
        before = task
    with SearchFolder(str(folder.path)).taken(chosen, propose) as task:
        assert task == before


def test_only_the_number_of_samples_may_change(folder):
    folder.begin(settings(samples=4))
    assert folder.begin(settings(samples=6)).samples == 6
    assert folder.begin(settings(samples=5)).samples == 6
    assert folder.settings() == settings(samples=6)
    with pytest.raises(ValueError, match=r"contains a search with other settings \(seed\)"):
        folder.begin(settings(seed=1))


def test_a_result_is_read_as_it_was_written(folder):
    chosen = folder.begin(settings())
    with folder.taken(chosen, propose) as task:
        written = dataclasses.replace(result(0, stopped=True), proposal=task.proposal)
        folder.finish(task, written)
    assert SearchFolder(str(folder.path)).results() == [written]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"proposal": 7}'])
def test_a_damaged_result_is_named(folder, content):
    chosen = folder.begin(settings())
    with folder.taken(chosen, propose) as task:
        (task.folder / "result.json").write_text(content)
    with pytest.raises(ValueError, match=r"result\.json is damaged"):
        folder.results()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"method": "luck"}, "method must be 'random', 'evolution' or 'nsga2', got 'luck'"),
        ({"stop_below": 100.0}, "stop_below must be at least 0 and less than 100, got 100.0"),
        ({"stop_after": 1.5}, "stop_after must be from 0 to 1, got 1.5"),
        ({"base": "efficientnetv2-z"}, "unknown variant 'efficientnetv2-z'"),
        ({"colour": "red"}, "unknown field 'colour' of a search"),
    ],
)
def test_damaged_settings_are_named(folder, change, said):
    folder.begin(settings())
    path = folder.path / "search.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"search\.json is damaged: ") as error:
        folder.settings()
    assert said in str(error.value)


def test_a_folder_without_a_search_and_a_bucket_are_refused(folder):
    with pytest.raises(FileNotFoundError, match="contains no search"):
        folder.settings()
    with pytest.raises(ValueError, match="a search needs a folder with locks"):
        SearchFolder("gs://bucket/search")
