"""Programs are compiled once, and refuse arguments of other shapes."""

import jax
import jax.numpy as jnp
import pytest

from effnetv2_jax.train.devices.compiler import BackgroundCompiler
from effnetv2_jax.train.devices.memory import DeviceMemoryError
from effnetv2_jax.train.devices.program import Program


def test_a_program_is_traced_once_and_refuses_other_shapes():
    traces = []

    def function(x):
        traces.append(x.shape)
        return x + 1

    with BackgroundCompiler() as compiler:
        compiler.add("step", lambda _: Program(function, (jax.ShapeDtypeStruct((2,), jnp.float32),), {}))
        compiler.compile_all()
        compiled = compiler.get("step")
        assert compiled(jnp.ones(2)).tolist() == [2.0, 2.0]
        assert compiled(jnp.zeros(2)).tolist() == [1.0, 1.0]
        with pytest.raises(TypeError, match=r"float32\[3\]"):
            compiled(jnp.ones(3))
        assert traces == [(2,)]
        figures = compiler.figures()["step"]
        assert figures["accumulation_steps"] == 1
        assert figures["device_bytes"] >= 16  # argument and result


def doubled(microbatches):
    """A program whose argument and result are 8 MiB together, divided by the microbatches."""
    x = jax.ShapeDtypeStruct((2**20 // microbatches,), jnp.float32)
    return Program(lambda x: 2 * x, (x,), {})


def test_a_program_takes_the_smallest_number_of_microbatches_that_fits():
    with BackgroundCompiler(available=3 * 2**20) as compiler:
        compiler.add("step", doubled, choices=(1, 2, 4, 8))
        compiler.compile_all()
        assert compiler.get("step")(jnp.ones(2**18)).shape == (2**18,)
        assert compiler.figures()["step"]["accumulation_steps"] == 4
        assert compiler.figures()["step"]["device_bytes"] == 2 * 2**20


def test_a_program_that_never_fits_is_refused_by_name():
    with BackgroundCompiler(available=2**20) as compiler:
        compiler.add("large", doubled, choices=(1, 2))
        compiler.compile_all()
        with pytest.raises(DeviceMemoryError, match=r"large needs 0\.00781 GiB .* has 0\.000977 GiB"):
            compiler.get("large")
