"""A new framework is one record in the table."""

import dataclasses
import types

import numpy as np
import pytest
import safetensors.numpy
from golden import reference

from effnetv2_jax.convert.conversion import convert
from effnetv2_jax.convert.frameworks import table
from effnetv2_jax.convert.frameworks.framework import Framework, ModuleNames
from effnetv2_jax.convert.frameworks.layout import FLAX_LAYOUTS, Layout
from effnetv2_jax.convert.weights import default_provenance, load_variables, load_weights, save_variables

MADE_UP = Framework(
    name="made-up",
    names=ModuleNames(
        stem=("in", "in_norm"),
        head=("out", "out_norm"),
        classifier="answers",
        block="b{block}_",
        blocks=(
            {"fused": ("f", "fn")},
            {"fused": ("f", "fn"), "project": ("p", "pn")},
            {"expand": ("e", "en"), "depthwise": ("d", "dn"), "se": ("r", "x"), "project": ("p", "pn")},
        ),
        leaves={
            "kernel": "w",
            "depthwise_kernel": "w",
            "bias": "b",
            "scale": "s",
            "offset": "o",
            "mean": "m",
            "variance": "v",
        },
        separator=":",
    ),
    layouts={**FLAX_LAYOUTS, "conv": Layout((2, 3, 1, 0)), "dense": Layout((1, 0))},
    formats=("safetensors",),
    padding="same",
    bn_epsilon=1e-3,
)


@pytest.fixture(autouse=True)
def in_the_table(monkeypatch):
    monkeypatch.setattr(table, "FRAMEWORKS", types.MappingProxyType(table.FRAMEWORKS | {"made-up": MADE_UP}))


def test_weights_are_saved_and_loaded_bit_for_bit(tmp_path, tiny):
    path = tmp_path / "w.safetensors"
    save_variables(path, tiny, reference.TINY, target="made-up")
    state = safetensors.numpy.load_file(path)
    kernel = tiny["params"]["block_0"]["fused_conv"]["kernel"]
    np.testing.assert_array_equal(state["b0_f:w"], kernel.transpose(2, 3, 1, 0))
    assert reference.equal(load_variables(path), tiny)
    safetensors.numpy.save_file(state, path)  # without the header
    weights = load_weights(path, reference.TINY)  # the framework is found by the names
    assert reference.equal(weights.variables, tiny)
    assert weights.provenance.read_from == "made-up:w.safetensors"


def test_a_conversion_from_the_new_framework_is_exact(tmp_path, tiny):
    save_variables(tmp_path / "w.safetensors", tiny, reference.TINY, target="made-up")
    done = convert(tmp_path / "w.safetensors", tmp_path / "back.safetensors", target="timm")
    assert done.verification.exact


def test_a_conversion_to_the_new_framework_with_another_padding_is_not_exact(tmp_path, tiny):
    provenance = dataclasses.replace(default_provenance(tiny, reference.TINY), padding="symmetric")
    save_variables(tmp_path / "w.safetensors", tiny, reference.TINY, provenance=provenance)
    done = convert(tmp_path / "w.safetensors", tmp_path / "made_up.safetensors", target="made-up")
    assert not done.verification.exact
    assert "made-up uses padding same" in done.verification.deviation
