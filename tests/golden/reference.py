"""The reference networks: their specs, their weights by the rules in this folder, and their compiled programs."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util
from golden.official_weights import moving_average_value, official_value
from golden.torch_weights import torch_value

from effnetv2_jax import VARIANTS, ModelSpec, create_model
from effnetv2_jax.convert.frameworks.table import framework_named
from effnetv2_jax.convert.tensors import network_tensors

FOLDER = Path(__file__).parent
TINY = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.3)
TINY_CHECKPOINT = FOLDER / "official_tiny_checkpoint"
ARTICLE_TINY = VARIANTS["article-s"].scaled(width=0.5, depth=0.1)


@functools.cache
def names(family: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """Returns network → tensor name → shape, as published by the `official` or the `torch` code."""
    read = json.loads((FOLDER / f"{family}_variables.json").read_text())
    return {network: {name: tuple(shape) for name, shape in rows.items()} for network, rows in read.items()}


def official_spec(network: str) -> tuple[ModelSpec, int]:
    """Returns the spec and the number of classes of a network in official_variables.json."""
    variant, _, rest = network.partition(", ")
    spec = TINY if rest.startswith("width") else VARIANTS[variant]
    if variant == "efficientnet-b3":  # the official V2 code rounds V1 networks as it rounds V2
        spec = dataclasses.replace(spec, rounding="nearest")
    return spec, names("official")[network]["head_1/dense/bias"][0]


def torch_spec(network: str) -> tuple[str, ModelSpec]:
    """Returns the framework and the spec of a network in torch_variables.json, such as timm/tf_efficientnetv2_s."""
    framework, name = network.split("/")
    for old, new in (("tf_", ""), ("effnetv2_", "article-"), ("efficientnet_v2", "efficientnetv2"), ("_", "-")):
        name = name.replace(old, new)
    return framework, VARIANTS[name]


def official_variables(spec: ModelSpec, num_classes: int, *, moving_average: bool = False) -> dict:
    """Returns variables with the values that the rule gives to the official names."""
    value = moving_average_value if moving_average else official_value
    return _variables(spec, num_classes, "official", value)


def torch_variables(framework: str, spec: ModelSpec, num_classes: int = 1000) -> dict:
    """Returns variables with the values that the rule gives to the names in a framework's state dict."""
    return _variables(spec, num_classes, framework, torch_value)


def framework_shapes(framework: str, spec: ModelSpec, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Returns name → shape of a framework's tensors, in order."""
    known = framework_named(framework)
    return {known.name_of(tensor): known.shape_of(tensor) for tensor in network_tensors(spec, num_classes)}


def _variables(spec: ModelSpec, num_classes: int, framework: str, value) -> dict:
    known = framework_named(framework)
    flat = {
        tensor.path: known.layout_of(tensor).to_flax(value(known.name_of(tensor), known.shape_of(tensor)))
        for tensor in network_tensors(spec, num_classes)
    }
    return traverse_util.unflatten_dict(flat, sep="/")


@functools.cache
def network(spec: ModelSpec, num_classes: int, **fields: object):
    """Returns the compiled network of a spec: (variables, images) → (logits, end points)."""
    model = create_model(spec, num_classes=num_classes, **fields)
    return jax.jit(functools.partial(model.apply, train=False, return_endpoints=True))


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest expected value."""
    assert got.shape == expected.shape
    return float(np.abs(np.asarray(got) - expected).max() / np.abs(expected).max())


def equal(left: dict, right: dict) -> bool:
    """Returns whether two trees of arrays are equal bit for bit."""
    left, right = (traverse_util.flatten_dict(tree) for tree in (left, right))
    return left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)
