"""The listed tensors of a network equal the leaves of the model."""

import pytest
from flax import traverse_util
from golden import reference

from effnetv2_jax import VARIANTS, create_model
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.model.variables import variable_shapes


def check_model(spec, num_classes):
    leaves = traverse_util.flatten_dict(variable_shapes(create_model(spec, num_classes=num_classes)), sep="/")
    tensors = {tensor.path: tensor.shape for tensor in network_tensors(spec, num_classes)}
    assert {path: leaf.shape for path, leaf in leaves.items()} == tensors


@pytest.mark.parametrize(
    "spec", [reference.TINY, VARIANTS["efficientnet-b0"], reference.ARTICLE_TINY], ids=lambda spec: spec.name
)
@pytest.mark.parametrize("num_classes", [0, 7])
def test_tensors_are_the_leaves_of_the_model(spec, num_classes):
    check_model(spec, num_classes)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_tensors_are_the_leaves_of_every_variant(variant):
    check_model(VARIANTS[variant], 1000)
