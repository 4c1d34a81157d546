"""JSON that may come from anyone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnetv2_jax.untrusted_json import MAX_JSON_BYTES, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_a_value_is_parsed_as_json_does(value):
    assert parse_json(json.dumps(value)) == parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        (" " * (MAX_JSON_BYTES + 1), "and the limit is 8,388,608"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' occurs twice"),
        ("9" * 10_000, "limit"),
        ("{", "Expecting"),
        (b"\xff\xff", "decode"),
    ],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)
