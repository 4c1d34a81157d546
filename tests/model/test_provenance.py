"""A provenance as the strings of a header, and back."""

import dataclasses
import json
import math

import pytest
from golden import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from effnetv2_jax import VARIANTS
from effnetv2_jax.model.provenance import Provenance, provenance_from_metadata

PROVENANCE = Provenance(VARIANTS["efficientnetv2-s"], 3, "same", 1e-3, preprocessing="v2", eval_size=384)
ROW = dataclasses.asdict(VARIANTS["efficientnetv2-xl"].rows[-1])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None)
@given(
    spec=st.sampled_from([VARIANTS["efficientnetv2-s"], VARIANTS["article-m"], reference.TINY]),
    averaging=st.sampled_from(["averaged", "raw", "unknown"]),
    padding=st.sampled_from(["same", "symmetric"]),
    epsilon=st.sampled_from([1e-3, 1e-5, 0.002]),
    names=st.lists(texts, max_size=4).map(tuple),
    read_from=texts,
    exact=st.sampled_from([True, False, None]),
)
def test_a_round_trip_changes_nothing(spec, averaging, padding, epsilon, names, read_from, exact):
    provenance = Provenance(
        spec, len(names) or 7, padding, epsilon, averaging, "legacy", 64, names, "digits", read_from, "", "", exact
    )
    assert provenance_from_metadata(provenance.to_metadata()) == provenance


def test_a_variant_is_stored_by_its_name_alone():
    assert "spec" not in PROVENANCE.to_metadata()
    assert "spec" in dataclasses.replace(PROVENANCE, spec=reference.TINY).to_metadata()


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"variant": "efficientnetv2-s"}])
def test_a_header_of_another_program_has_no_provenance(metadata):
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
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"depth": math.inf})),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"width": math.nan})),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"width": 10**9, "stem_features": "a" * 1000})),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"head_features": 10**12})),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"rows": []})),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"name": 5})),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"rounding": "up"})),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"rows": [ROW | {"stride": 0}]})),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"rows": [ROW | {"kind": "conv"}]})),
        ("spec", json.dumps(dataclasses.asdict(reference.TINY) | {"rows": [ROW | {"expand_ratio": 1000}]})),
        ("spec", "[" * 100_000),
        ("class_names", "[" * 100_000),
        ("class_names", '["a", "b"]'),
        ("num_classes", "-1"),
        ("num_classes", "1000000000000000000"),
        ("num_classes", "9" * 10_000),
        ("bn_epsilon", "nan"),
        ("bn_epsilon", "-0.001"),
        ("eval_size", "1000000"),
        ("eval_size", "-1"),
    ],
)
def test_a_damaged_provenance_is_refused(key, value):
    with pytest.raises(ValueError, match="provenance that the file records is damaged"):
        provenance_from_metadata(PROVENANCE.to_metadata() | {key: value})


def test_an_evaluation_crop_is_recorded_if_it_is_not_the_family_s():
    provenance = dataclasses.replace(PROVENANCE, eval_crop="whole")
    assert provenance_from_metadata(provenance.to_metadata()) == provenance
    assert "eval_crop" not in PROVENANCE.to_metadata()
