"""The units of `tpu_units` compute what the layers compute one by one, and the same gradients."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import Array

from effnetv2_jax.model.block import Block
from effnetv2_jax.model.layers import BatchNorm, Conv
from effnetv2_jax.model.specs import BlockSpec

_BLOCKS = {
    "expand, squeeze and residual": BlockSpec("mbconv", 0, 4, 3, 1, 8, 8, 2, True),
    "stride, no squeeze": BlockSpec("mbconv", 0, 4, 3, 2, 8, 16, 0, True),
    "no expansion": BlockSpec("mbconv", 0, 1, 5, 1, 8, 8, 2, True),
}
_IMAGES = 8


def _block(spec: BlockSpec, group_size: int, fast: bool) -> Block:
    norm = functools.partial(BatchNorm, 0.9, 1e-3, group_size)
    return Block(spec, functools.partial(Conv), norm, 0.0, fast)


@functools.cache
def _arrays(spec: BlockSpec) -> tuple[Any, Array, Array]:
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (_IMAGES, 7, 7, spec.input_features)) + 0.5
    side = -(-7 // spec.stride)
    g = jax.random.normal(keys[1], (_IMAGES, side, side, spec.features))
    variables = _block(spec, 0, False).init(keys[2], x, train=True)
    leaves, tree = jax.tree.flatten(variables["params"])
    moved = [
        leaf + 0.2 * jax.random.normal(jax.random.fold_in(keys[3], i), leaf.shape) for i, leaf in enumerate(leaves)
    ]
    return {**variables, "params": jax.tree.unflatten(tree, moved)}, x, g


def _results(spec: BlockSpec, group_size: int, dtype: Any, fast: bool) -> dict[str, Any]:
    """Returns the output, the new statistics, and the gradients of parameters and input."""
    variables, x, g = _arrays(spec)

    @jax.jit
    def run(params: Any, x: Array) -> dict[str, Any]:
        def forward(params: Any, x: Array) -> tuple[Array, Any]:
            block = _block(spec, group_size, fast)
            return block.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])

        y, backward, updates = jax.vjp(forward, params, x, has_aux=True)
        by_params, by_x = backward(g.astype(y.dtype))
        return {"y": y, "statistics": updates["batch_stats"], "by_params": by_params, "by_x": by_x}

    return run(variables["params"], x.astype(dtype))


def _largest_error(result: Any, expected: Any) -> float:
    """Returns the largest relative error of an array, in the Euclidean norm."""

    def error(a: Array, b: Array) -> Array:
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        return jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(b.ravel())

    return max(float(each) for each in jax.tree.leaves(jax.tree.map(error, result, expected)))


@pytest.mark.parametrize("group_size", [0, 4])
@pytest.mark.parametrize("name", _BLOCKS)
def test_units_agree_with_the_layers_in_float32(name: str, group_size: int) -> None:
    expected = _results(_BLOCKS[name], group_size, jnp.float32, fast=False)
    result = _results(_BLOCKS[name], group_size, jnp.float32, fast=True)
    errors = {key: _largest_error(result[key], expected[key]) for key in expected}
    assert max(errors.values()) < 1e-5, errors


@pytest.mark.parametrize("name", _BLOCKS)
def test_units_round_no_worse_than_the_layers_in_bfloat16(name: str) -> None:
    exact = _results(_BLOCKS[name], 0, jnp.float32, fast=False)
    plain = _results(_BLOCKS[name], 0, jnp.bfloat16, fast=False)
    units = _results(_BLOCKS[name], 0, jnp.bfloat16, fast=True)
    for key in exact:
        assert _largest_error(units[key], exact[key]) < 1.5 * _largest_error(plain[key], exact[key]) + 1e-3, key
