"""Rows whose activations are computed again in the backward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnetv2_jax.model.efficientnetv2 import create_model
from effnetv2_jax.model.variants import VARIANTS

TINY = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)
AS_IN_A_RUN = {"xla_backend_optimization_level": 3}  # tests compile without optimisations, which rounds differently


def test_remat_does_not_change_names_gradients_or_statistics():
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
    rng = {"dropout": jax.random.key(1)}
    kept, again = (create_model(TINY, num_classes=3, drop_path_rate=0.5, remat=rows) for rows in ((), (0, 2, 4)))
    variables = kept.init(jax.random.key(2), images)
    assert jax.tree.structure(variables) == jax.tree.structure(again.init(jax.random.key(2), images))

    def gradients(model):
        def loss(params):
            logits, updates = model.apply(
                variables | {"params": params}, images, train=True, rngs=rng, mutable=["batch_stats"]
            )
            return jnp.sum(logits**2), updates

        return jax.jit(jax.grad(loss, has_aux=True), compiler_options=AS_IN_A_RUN)

    for left, right in zip(
        *(jax.tree.leaves(gradients(model)(variables["params"])) for model in (kept, again)), strict=True
    ):
        np.testing.assert_allclose(left, right, rtol=2e-4, atol=1e-5)
    text = gradients(again).lower(variables["params"]).as_text()
    assert "optimization_barrier" in text, "activations are computed again"
    assert "optimization_barrier" not in gradients(kept).lower(variables["params"]).as_text()


def test_a_row_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"remat .* 0 to 5.* \[6\]"):
        create_model(TINY, remat=(1, 6))
