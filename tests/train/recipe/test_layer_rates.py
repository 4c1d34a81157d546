"""Learning rates by layer: they are those of timm, and multiply the updates alone."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from effnetv2_jax import VARIANTS, create_model
from effnetv2_jax.convert.frameworks.timm import TIMM
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.model.variables import variable_shapes
from effnetv2_jax.train.recipe import parameter_paths
from effnetv2_jax.train.recipe.layer_rates import rate_factors, with_factors

GOLDEN = Path(__file__).parent.parent.parent / "golden/timm_layer_decay.json"
B0 = VARIANTS["efficientnetv2-b0"]


def factors(layer_decay, head_rate=1.0):
    return rate_factors(layer_decay, head_rate, B0, variable_shapes(create_model(B0))["params"])


def test_the_factors_are_those_of_timm():
    """The expected ones are the lr_scale of timm 1.0.31, param_groups_layer_decay with a decay of 0.75."""
    expected = json.loads(GOLDEN.read_text())
    got = factors(0.75)
    ours = {
        TIMM.name_of(tensor): got[tensor.path.removeprefix("params/")]
        for tensor in network_tensors(B0, 1000)
        if tensor.path.startswith("params/")
    }
    assert ours.keys() == expected.keys()
    for name, factor in expected.items():
        assert ours[name] == pytest.approx(factor, rel=1e-6), name


def test_the_classifier_has_a_rate_of_its_own():
    got = factors(1.0, head_rate=10.0)
    assert {path: factor for path, factor in got.items() if factor != 1.0} == {
        "classifier/kernel": 10.0,
        "classifier/bias": 10.0,
    }


def test_factors_multiply_the_updates_and_leave_the_state_as_it_is():
    params = {"stem": {"kernel": jnp.ones(2)}, "classifier": {"kernel": jnp.ones(3)}}
    gradients = jax.tree.map(lambda x: 0.5 * x, params)
    plain = optax.rmsprop(0.1, momentum=0.9)
    changed = with_factors(plain, {"stem/kernel": 0.25, "classifier/kernel": 3.0})
    state, other = plain.init(params), changed.init(params)
    for _ in range(3):
        expected, state = plain.update(gradients, state, params)
        got, other = changed.update(gradients, other, params)
    jax.tree.map(np.testing.assert_array_equal, other, state)
    np.testing.assert_allclose(got["stem"]["kernel"], 0.25 * expected["stem"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(got["classifier"]["kernel"], 3 * expected["classifier"]["kernel"], rtol=1e-6)
    assert parameter_paths.flatten(got).keys() == {"stem/kernel", "classifier/kernel"}
