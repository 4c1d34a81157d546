"""Files of specs: a round trip changes nothing, and whatever is wrong is refused in one line that names it."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnetv2_jax import VARIANTS, create_model
from effnetv2_jax.model.spec_file import parse_spec, read_spec, spec_text, write_spec
from effnetv2_jax.model.specs import ModelSpec, RowSpec
from effnetv2_jax.model.summary import count_parameters
from effnetv2_jax.model.variants import get_spec

FOUND = dataclasses.replace(VARIANTS["efficientnetv2-b0"], name="found", width=0.25, depth=0.1, top1=None)
FIELDS = json.loads(spec_text(FOUND))
ROW = FIELDS["rows"][0]

rows = st.builds(
    RowSpec,
    kind=st.sampled_from(["mbconv", "fused"]),
    expand_ratio=st.sampled_from([1, 4, 6]),
    kernel_size=st.sampled_from([3, 5]),
    stride=st.sampled_from([1, 2]),
    features=st.integers(1, 500),
    repeats=st.integers(1, 9),
    se_ratio=st.sampled_from([0.0, 0.25]),
)
specs = st.builds(
    ModelSpec,
    name=st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, categories=["L", "N", "P"]), min_size=1),
    rows=st.lists(rows, min_size=1, max_size=8).map(tuple),
    stem_features=st.integers(1, 64),
    citation=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    train_size=st.integers(300, 600),
    eval_size=st.integers(300, 600),
    dropout_rate=st.floats(0, 0.9),
    rounding=st.sampled_from(["nearest", "divisible"]),
)


@pytest.mark.parametrize("spec", [*VARIANTS.values(), FOUND], ids=lambda spec: spec.name)
def test_a_file_gives_the_spec_that_was_written(tmp_path, spec):
    write_spec(tmp_path / "spec.json", spec)
    assert read_spec(tmp_path / "spec.json") == spec
    assert get_spec(str(tmp_path / "spec.json")) == spec
    assert get_spec(spec_text(spec)) == spec


@settings(deadline=None)
@given(specs)
def test_a_text_gives_the_spec_that_it_was_made_from(spec):
    assert parse_spec(spec_text(spec)) == spec


def test_a_network_is_made_from_a_file(tmp_path):
    write_spec(tmp_path / "found.json", FOUND)
    model = create_model(str(tmp_path / "found.json"), num_classes=10)
    assert model.spec == FOUND
    assert count_parameters(model.spec, 10) == count_parameters(FOUND, 10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"widht": 1}, "unknown field 'widht'; did you mean width?"),
        ({"eval_size": None}, "eval_size must be int, got None"),
        ({"eval_size": True}, "eval_size must be int, got True"),
        ({"eval_size": 32.5}, "eval_size must be int, got 32.5"),
        ({"eval_size": 8193}, "eval_size must be from 0 to 8192, got 8193"),
        ({"eval_size": 16}, "eval_size must be at least 17, so that the last row has pixels, got 16"),
        ({"width": 0}, "width must be from 0.001 to 1000, got 0"),
        ({"width": math.nan}, "width must be from 0.001 to 1000, got nan"),
        ({"name": ""}, "name must have from 1 to 100 printable characters, got ''"),
        ({"name": "a\nb"}, "name must have from 1 to 100 printable characters"),
        ({"rounding": "up"}, "rounding must be 'nearest' or 'divisible', got 'up'"),
        ({"rows": []}, "a spec must be one object with a list of rows"),
        ({"rows": [7]}, "row 0: it must be an object, got 7"),
        ({"rows": [ROW, ROW | {"kind": "conv"}]}, "row 1: kind must be 'mbconv' or 'fused', got 'conv'"),
        ({"rows": [ROW | {"kernel_size": 65}]}, "row 0: kernel_size must be from 1 to 64, got 65"),
        ({"rows": [{"kind": "fused"}]}, "row 0: it has no expand_ratio, kernel_size, stride, features, repeats"),
        ({"rows": [ROW | {"repeats": 1000}], "depth": 2}, "'found' has more than 1,000 blocks"),
        ({"head_features": 60_000, "width": 9}, "'found' has a layer with more than 65,536 features"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(tmp_path, change, said):
    path = tmp_path / "found.json"
    path.write_text(json.dumps(FIELDS | change))
    with pytest.raises(ValueError, match=r"found\.json is not a spec: ") as error:
        get_spec(str(path))
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '{"name": "a", "name": "b"}', "[" * 100_000, '{"rows": 7}'])
def test_what_is_no_spec_at_all_is_refused(tmp_path, text):
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(ValueError, match=r"spec\.json is not a spec: "):
        read_spec(tmp_path / "spec.json")


def test_a_long_value_makes_no_long_message(tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps(FIELDS | {"width": "w" * 100_000}))
    with pytest.raises(ValueError, match="width must be float") as error:
        read_spec(tmp_path / "spec.json")
    assert len(str(error.value)) < 500


def test_a_variant_s_name_is_not_taken_by_another_spec(tmp_path):
    write_spec(tmp_path / "spec.json", dataclasses.replace(FOUND, name="efficientnetv2-s"))
    with pytest.raises(ValueError, match="has the name of the variant efficientnetv2-s and differs from it"):
        get_spec(str(tmp_path / "spec.json"))


def test_only_a_spec_that_can_be_read_is_written(tmp_path):
    with pytest.raises(ValueError, match="eval_size must be at least 17"):
        write_spec(tmp_path / "spec.json", dataclasses.replace(FOUND, eval_size=1))
    with pytest.raises(ValueError, match=r"must end with \.json"):
        write_spec(tmp_path / "spec.txt", FOUND)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found\.json"):
        get_spec(str(tmp_path / "found.json"))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "spec.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(ValueError, match="the limit is"):
        read_spec(tmp_path / "spec.json")
