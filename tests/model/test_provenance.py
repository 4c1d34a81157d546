"""Facts as strings and back."""

import dataclasses
import hashlib
import json

import pytest
from golden import reference
from hypothesis import given
from hypothesis import strategies as st

from effnetv2_jax import VARIANTS
from effnetv2_jax.model.provenance import Provenance, file_sha256, provenance_from_metadata

FACTS = Provenance(VARIANTS["efficientnetv2-s"], 3, "same", 1e-3, preprocessing="v2", eval_size=384)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    spec=st.sampled_from([VARIANTS["efficientnetv2-s"], VARIANTS["article-m"], reference.TINY]),
    averaging=st.sampled_from(["averaged", "raw", "unknown"]),
    padding=st.sampled_from(["same", "symmetric"]),
    epsilon=st.sampled_from([1e-3, 1e-5, 0.002]),
    names=st.lists(texts, max_size=4).map(tuple),
    source=texts,
    exact=st.sampled_from([True, False, None]),
)
def test_there_and_back(spec, averaging, padding, epsilon, names, source, exact):
    facts = Provenance(spec, 7, padding, epsilon, averaging, "legacy", 64, names, "digits", source, "", "", exact)
    assert provenance_from_metadata(facts.to_metadata()) == facts


def test_a_variant_is_stored_by_its_name_alone():
    assert "spec" not in FACTS.to_metadata()
    assert "spec" in dataclasses.replace(FACTS, spec=reference.TINY).to_metadata()


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"variant": "efficientnetv2-s"}])
def test_a_file_that_is_none_of_ours(metadata):
    assert provenance_from_metadata(metadata) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("variant", "efficientnetv2-z"),
        ("num_classes", "many"),
        ("padding", "valid"),
        ("averaging", "half"),
        ("class_names", "[1]"),
        ("class_names", '"abc"'),
        ("bn_epsilon", "small"),
        ("spec", "{}"),
        ("spec", '{"rows": [], "colour": "red"}'),
        ("spec", "["),
        ("spec", "[]"),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"depth": 1e9})),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"width": "wide"})),
        ("eval_size", "1000000"),
        ("eval_size", "-1"),
    ],
)
def test_damaged_facts_are_noticed(key, value):
    with pytest.raises(ValueError, match="facts about its weights are damaged"):
        provenance_from_metadata(FACTS.to_metadata() | {key: value})


def test_sha256_of_files_one_after_the_other(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 2_000_000)
    (tmp_path / "b").write_bytes(b"y")
    expected = hashlib.sha256(b"x" * 2_000_000 + b"y").hexdigest()
    assert file_sha256(tmp_path / "a", tmp_path / "b") == expected


def test_an_evaluation_crop_of_a_run_s_own_travels_with_its_weights():
    facts = dataclasses.replace(FACTS, eval_crop="whole")
    assert provenance_from_metadata(facts.to_metadata()) == facts
    assert "eval_crop" not in FACTS.to_metadata()
