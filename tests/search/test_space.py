"""The search space: rows of a base, with each choice of the paper."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnetv2_jax import VARIANTS
from effnetv2_jax.model.spec_file import parse_spec, spec_text
from effnetv2_jax.search.space import SearchSpace

B0 = SearchSpace(VARIANTS["efficientnet-b0"])
SMALL = SearchSpace(VARIANTS["efficientnet-b0"].scaled(width=0.25, depth=0.1))


def params(space):
    return st.fixed_dictionaries({name: st.sampled_from(values) for name, values in space.choices().items()})


@settings(deadline=None)
@given(st.sampled_from([B0, SMALL]).flatmap(lambda space: st.tuples(st.just(space), params(space))))
def test_a_network_has_the_choices_and_the_channels_and_strides_of_the_base(drawn):
    space, chosen = drawn
    spec = space.spec(chosen, "found")
    assert parse_spec(spec_text(spec)) == spec
    for number, (row, base) in enumerate(zip(spec.rows, space.base.rows, strict=True)):
        for field in ("kind", "kernel_size", "expand_ratio", "se_ratio", "repeats"):
            assert getattr(row, field) == chosen[f"row_{number}.{field}"]
        assert row.stride == base.stride
        assert spec.features(row.features) == space.base.features(base.features)
    assert spec.stem == space.base.stem
    assert spec.head_width == space.base.head_width
    assert sum(1 for _ in spec.blocks()) == sum(row.repeats for row in spec.rows)


def test_the_base_is_in_its_own_space():
    base = VARIANTS["efficientnet-b0"]
    chosen = {
        f"row_{number}.{field}": getattr(row, field)
        for number, row in enumerate(base.rows)
        for field in ("kind", "kernel_size", "expand_ratio", "se_ratio", "repeats")
    }
    assert list(B0.spec(chosen, base.name).blocks()) == list(base.blocks())


def test_the_space_has_the_paper_s_choices():
    choices = B0.choices()
    assert choices["row_2.kind"] == ("mbconv", "fused")
    assert choices["row_2.kernel_size"] == (3, 5)
    assert choices["row_2.expand_ratio"] == (1, 4, 6)
    assert choices["row_2.se_ratio"] == (0.0, 0.25)
    assert choices["row_0.repeats"] == (1, 2, 3)
    assert choices["row_5.repeats"] == (3, 4, 5, 6)
    assert B0.size == 24**7 * 3**2 * 4**5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"row_0.kernel_size": 7}, "row_0.kernel_size must be one of 3, 5, got 7"),
        ({"row_9.kind": "fused"}, "a network needs the choices row_0.kind"),
    ],
)
def test_other_values_are_refused(change, said):
    chosen = {name: values[0] for name, values in SMALL.choices().items()}
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        SMALL.spec(chosen | change, "found")
    assert dataclasses.replace(SMALL).spec(chosen, "found").name == "found"
