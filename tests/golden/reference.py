"""The reference networks: their specs, their weights by the rules beside this file, and a compiled program of each."""

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
from effnetv2_jax.convert.layouts import LAYOUTS
from effnetv2_jax.convert.names import tensor_rows

FOLDER = Path(__file__).parent
TINY = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.3)
TINY_CHECKPOINT = FOLDER / "official_tiny_checkpoint"
ARTICLE_TINY = VARIANTS["article-s"].scaled(width=0.5, depth=0.1)


@functools.cache
def names(family: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """The published names and shapes: `official` or `torch`, by network."""
    read = json.loads((FOLDER / f"{family}_variables.json").read_text())
    return {network: {name: tuple(shape) for name, shape in rows.items()} for network, rows in read.items()}


def official_spec(network: str) -> tuple[ModelSpec, int]:
    """The spec and the classes of a network of official_variables.json."""
    variant, _, rest = network.partition(", ")
    spec = TINY if rest.startswith("width") else VARIANTS[variant]
    if variant == "efficientnet-b3":  # the official code's V1 rounds as its V2 does
        spec = dataclasses.replace(spec, rounding="nearest")
    return spec, names("official")[network]["head_1/dense/bias"][0]


def torch_spec(network: str) -> tuple[str, ModelSpec]:
    """The convention and the spec of a network of torch_variables.json, such as timm/tf_efficientnetv2_s."""
    convention, name = network.split("/")
    for old, new in (("tf_", ""), ("effnetv2_", "article-"), ("efficientnet_v2", "efficientnetv2"), ("_", "-")):
        name = name.replace(old, new)
    return convention, VARIANTS[name]


def official_variables(spec: ModelSpec, num_classes: int, *, moving_average: bool = False) -> dict:
    """Our variables of the values that the rule gives to the official ones."""
    value = moving_average_value if moving_average else official_value
    return _variables(spec, num_classes, "official", value)


def torch_variables(convention: str, spec: ModelSpec, num_classes: int = 1000) -> dict:
    """Our variables of the values that the rule gives to a state dict's."""
    return _variables(spec, num_classes, convention, torch_value)


def _variables(spec: ModelSpec, num_classes: int, convention: str, value) -> dict:
    layouts = LAYOUTS[convention]
    flat = {
        row.path: layouts[row.kind].ours(value(row.name(convention), layouts[row.kind].shape(row.shape)))
        for row in tensor_rows(spec, num_classes)
    }
    return traverse_util.unflatten_dict(flat, sep="/")


@functools.cache
def network(spec: ModelSpec, num_classes: int, **fields: object):
    """The compiled network of a spec: (variables, images) → (logits, end points)."""
    model = create_model(spec, num_classes=num_classes, **fields)
    return jax.jit(functools.partial(model.apply, train=False, return_endpoints=True))


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest expected value."""
    assert got.shape == expected.shape
    return float(np.abs(np.asarray(got) - expected).max() / np.abs(expected).max())


def equal(left: dict, right: dict) -> bool:
    """Whether two trees of arrays are the same bit for bit."""
    left, right = (traverse_util.flatten_dict(tree) for tree in (left, right))
    return left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)
