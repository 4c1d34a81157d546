"""Evaluation runs each set of weights once, on the whole split."""

import jax.numpy as jnp
import optax
import pytest

from effnetv2_jax.train.evaluation import evaluate
from effnetv2_jax.train.recipe.state import create_state


def test_weights_with_two_names_are_evaluated_once():
    runs = []

    def eval_step(variables, batch):
        runs.append(variables)
        return {"top1": variables * batch, "top5": batch, "loss": batch, "count": batch}

    one, other = jnp.float32(0.5), jnp.float32(0.25)
    results = evaluate(eval_step, {"raw": one, "averaged": one, "other": other}, [jnp.float32(2)] * 3, examples=6)
    assert {name: values["top1"] for name, values in results.items()} == {"raw": 50, "averaged": 50, "other": 25}
    assert [float(variables) for variables in runs] == [0.5, 0.25] * 3
    with pytest.raises(RuntimeError, match=r" 6 images .* 7"):
        evaluate(eval_step, {"raw": one}, [jnp.float32(2)] * 3, examples=7)


def test_without_averages_raw_and_averaged_are_the_same_weights():
    variables = {"params": {"w": jnp.ones(3)}, "batch_stats": {"w": jnp.zeros(3)}}
    for averaged in (True, False):
        weights = create_state(variables, optax.sgd(0.1), averaged=averaged).weights
        assert (weights["raw"] is weights["averaged"]) != averaged
