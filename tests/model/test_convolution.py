"""Convolutions and their gradients equal those of `lax.conv_general_dilated` on each platform, in every mode."""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from effnetv2_jax.model.convolution import convolve
from effnetv2_jax.model.lax_convolution import Padding, explicit_padding


class Case(NamedTuple):
    kind: str
    size: int
    stride: int
    padding: Padding
    height: int
    width: int
    channels: int
    features: int = 0

    def convolve(self, x: Array, kernel: Array, *, fast: bool = True) -> Array:
        depthwise = self.kind == "depthwise"
        return convolve(
            x, kernel, stride=self.stride, padding=self.padding, depthwise=depthwise, fast_cpu_gradients=fast
        )

    def reference(self, x: Array, kernel: Array) -> Array:
        pads = [explicit_padding(length, self.size, self.stride, self.padding) for length in x.shape[1:3]]
        groups = self.channels if self.kind == "depthwise" else 1
        return lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def arrays(self, images: int = 2, dtype: jnp.dtype = jnp.float32) -> tuple[Array, Array, Array]:
        """Returns random images, a kernel and a cotangent."""
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=(images, self.height, self.width, self.channels)), dtype)
        inner, outer = (1, self.channels) if self.kind == "depthwise" else (self.channels, self.features)
        kernel = jnp.asarray(rng.normal(size=(self.size, self.size, inner, outer)), dtype)
        out = jax.eval_shape(self.reference, x, kernel)
        return x, kernel, jnp.asarray(rng.normal(size=out.shape), dtype)


CASES = [
    Case("dense", 1, 1, "same", 5, 6, 3, 16),
    Case("dense", 1, 2, "same", 5, 6, 3, 4),
    Case("dense", 3, 1, "same", 5, 6, 3, 16),
    Case("dense", 3, 2, "same", 8, 9, 16, 3),
    Case("dense", 3, 2, "symmetric", 8, 9, 3, 4),
    Case("dense", 5, 2, "same", 9, 8, 2, 3),
    Case("dense", 3, 2, "same", 1, 2, 4, 4),
    Case("depthwise", 3, 1, "same", 5, 6, 40),
    Case("depthwise", 3, 2, "same", 8, 9, 3),
    Case("depthwise", 3, 2, "symmetric", 8, 9, 3),
    Case("depthwise", 5, 1, "symmetric", 6, 7, 3),
    Case("depthwise", 5, 2, "same", 9, 8, 3),
    Case("depthwise", 5, 1, "same", 1, 2, 4),
]
KINDS = [CASES[0], CASES[3], CASES[7], CASES[8]]
both_gradients = pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])


def results(function, x: Array, kernel: Array, g: Array) -> tuple[Array, Array, Array]:
    """Returns the convolution and its gradients by the image and by the kernel."""
    out, pull_back = jax.vjp(function, x, kernel)
    return out, *pull_back(g)


def assert_close(actual, expected, tolerance: float) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        b = np.asarray(b, np.float32)
        np.testing.assert_allclose(np.asarray(a, np.float32), b, rtol=0, atol=tolerance * np.abs(b).max())


@both_gradients
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_convolutions_and_gradients_equal_those_of_xla(case, fast):
    ours = functools.partial(case.convolve, fast=fast)
    actual, expected = jax.jit(lambda *a: (results(ours, *a), results(case.reference, *a)))(*case.arrays())
    assert_close(actual, expected, 2e-6)


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.kind + str(case.size) + str(case.stride))
def test_plain_convolutions_are_differentiable_in_every_mode(case):
    case = case._replace(channels=min(case.channels, 3), features=min(case.features, 3))
    x, kernel, _ = case.arrays()

    def derivatives(function):
        def cubed(x, kernel):
            return (function(x, kernel) ** 3).sum()

        forward = jax.jvp(cubed, (x, kernel), (x, kernel))
        forward_over_reverse = jax.hessian(cubed, 1)(x, kernel)
        reverse_over_forward = jax.jacrev(jax.jacfwd(cubed, 1), 0)(x, kernel)
        return *forward, forward_over_reverse, reverse_over_forward

    ours = functools.partial(case.convolve, fast=False)
    actual, expected = jax.jit(lambda: (derivatives(ours), derivatives(case.reference)))()
    assert_close(actual, expected, 1e-5)


def test_fast_gradients_allow_reverse_mode_only():
    x, kernel, _ = KINDS[0].arrays()
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(KINDS[0].convolve, (x, kernel), (x, kernel))


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.kind + str(case.size) + str(case.stride))
def test_bfloat16_convolutions_are_summed_in_float32(case):
    arrays = case.arrays(images=32, dtype=jnp.bfloat16)
    actual = jax.jit(functools.partial(results, case.convolve))(*arrays)
    wide = [array.astype(jnp.float32) for array in arrays]
    assert {array.dtype for array in actual} == {jnp.dtype(jnp.bfloat16)}
    assert_close(actual, jax.jit(functools.partial(results, case.reference))(*wide), 2**-8)


@pytest.mark.parametrize("case", KINDS[1:3], ids=lambda case: case.kind)
def test_batch_may_be_sharded(case):
    devices = len(jax.devices())
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    by_image, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    x, kernel, g = case.arrays(images=2 * devices)
    step = jax.jit(
        functools.partial(results, case.convolve),
        in_shardings=(by_image, everywhere, by_image),
        out_shardings=(by_image, by_image, everywhere),
    )
    assert_close(step(x, kernel, g), jax.jit(functools.partial(results, case.reference))(x, kernel, g), 2e-6)


@pytest.mark.parametrize("case", KINDS[1:3], ids=lambda case: case.kind)
def test_vmap_and_checkpoint_change_nothing(case):
    x, kernel, g = case.arrays(images=4)
    split = [array.reshape(2, 2, *array.shape[1:]) for array in (x, g)]

    @jax.jit
    def mapped(x, kernel, g):
        out, by_x, by_kernel = jax.vmap(functools.partial(results, jax.checkpoint(case.convolve)), (0, None, 0))(
            x, kernel, g
        )
        return jnp.concatenate(out), jnp.concatenate(by_x), by_kernel.sum(0)

    expected = jax.jit(functools.partial(results, case.convolve))(x, kernel, g)
    assert_close(mapped(split[0], kernel, split[1]), expected, 2e-6)


@both_gradients
@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.kind + str(case.size) + str(case.stride))
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_on_accelerators_only_convolutions_of_xla_are_used(case, platform, fast):
    def operations(function) -> list[str]:
        traced = jax.jit(functools.partial(results, function)).trace(*case.arrays())
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        # The choice of a platform leaves a `case` with one branch, which XLA inlines, and zeros in place of the values
        # that only the branch of the CPU keeps.
        choice = {"case", "constant", "return", "broadcast_in_dim"}
        return sorted(name for name in re.findall(r"stablehlo\.(\w+)", text) if name not in choice)

    actual = operations(functools.partial(case.convolve, fast=fast))
    assert actual == operations(case.reference)
    assert actual.count("convolution") == 3
    assert "dot_general" not in actual


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_equals_xla_and_symmetric_padding_is_half_the_kernel(size, stride):
    for length in range(1, 12):
        assert [explicit_padding(length, size, stride, "same")] == lax.padtype_to_pads(
            (length,), (size,), (stride,), "SAME"
        )
        assert explicit_padding(length, size, stride, "symmetric") == (size // 2, size // 2)


def test_unknown_paddings_are_refused():
    with pytest.raises(ValueError, match="'valid'"):
        explicit_padding(8, 3, 1, "valid")
