"""The scaling rule gives nearly the published networks, stays within budgets, and grows with its coefficient."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnetv2_jax import VARIANTS
from effnetv2_jax.model.scaling import LARGEST_PHI, largest_phi, layers_of, scale_spec
from effnetv2_jax.model.summary import count_multiply_adds, count_parameters

S, M, L = (VARIANTS[f"efficientnetv2-{size}"] for size in "sml")


def multiply_adds(spec):
    return count_multiply_adds(spec, spec.eval_size)


@pytest.mark.parametrize(
    ("published", "phi", "layers", "features", "parameters", "adds"),
    [
        (M, 1.65, [3, 5, 5, 8, 11, 19, 5], [32, 56, 72, 152, 184, 296, 496], 0.965, 1.059),
        (L, 3.75, [3, 7, 7, 10, 18, 29, 7], [32, 72, 88, 184, 232, 368, 608], 0.998, 1.036),
    ],
    ids=["m", "l"],
)
def test_s_has_the_proportions_of_m_and_l_at_their_numbers_of_parameters(
    published, phi, layers, features, parameters, adds
):
    assert largest_phi(S, count_parameters, count_parameters(published)) == phi
    scaled = scale_spec(S, phi)
    assert layers_of(scaled) == layers
    assert [scaled.features(row.features) for row in scaled.rows] == features
    assert scaled.eval_size == published.eval_size == 480
    assert abs(scaled.train_size - published.train_size) == 8
    assert count_parameters(scaled) / count_parameters(published) == pytest.approx(parameters, abs=5e-4)
    assert multiply_adds(scaled) / multiply_adds(published) == pytest.approx(adds, abs=5e-4)
    # The published networks have as many rows with the same kinds of blocks, and about as many layers and channels.
    assert [(row.kind, row.stride, row.expand_ratio) for row in scaled.rows] == [
        (row.kind, row.stride, row.expand_ratio) for row in published.rows
    ]
    for ours, theirs in zip(layers_of(scaled), layers_of(published), strict=True):
        assert abs(ours - theirs) <= 4
    for ours, theirs in zip(scaled.rows, published.rows, strict=True):
        assert 3 / 4 <= ours.features / theirs.features <= 4 / 3


def test_late_rows_gain_more_layers_than_early_ones():
    factors = [after / before for before, after in zip(layers_of(S), layers_of(scale_spec(S, 3.0)), strict=False)]
    assert max(factors[:4]) < min(factors[4:])


@settings(deadline=None)
@given(st.sampled_from(sorted(VARIANTS)), st.floats(0, LARGEST_PHI), st.floats(0, LARGEST_PHI))
def test_a_network_never_shrinks_as_phi_grows(name, one, other):
    small, large = (scale_spec(VARIANTS[name], phi) for phi in sorted((one, other)))
    assert all(ours <= theirs for ours, theirs in zip(layers_of(small), layers_of(large), strict=False))
    assert small.eval_size <= large.eval_size <= max(480, VARIANTS[name].eval_size)
    assert small.dropout_rate <= large.dropout_rate <= max(0.5, VARIANTS[name].dropout_rate)
    assert count_parameters(small) <= count_parameters(large)


@pytest.mark.parametrize("name", ["efficientnetv2-b3", "efficientnet-b0", "article-s"])
def test_the_largest_network_within_a_budget_is_found(name):
    spec = VARIANTS[name]
    budget = 2.5 * multiply_adds(spec)
    phi = largest_phi(spec, multiply_adds, budget)
    assert multiply_adds(scale_spec(spec, phi)) <= budget < multiply_adds(scale_spec(spec, phi + 0.05))


def test_a_budget_below_the_spec_itself_is_refused():
    with pytest.raises(ValueError, match=r"the parameters must be at least those of efficientnetv2-s itself, 2\.146e"):
        largest_phi(S, count_parameters, 1e6, what="the parameters")


def test_phi_zero_changes_nothing_and_a_wrong_phi_is_refused():
    assert scale_spec(S, 0) is S
    with pytest.raises(ValueError, match="phi must be from 0 to 12, got -1"):
        scale_spec(S, -1)
