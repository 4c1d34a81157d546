"""Classifiers that are kept, replaced, left out or missing."""

import copy

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from golden import reference

from effnetv2_jax.convert.formats.safetensors_file import DIGEST
from effnetv2_jax.convert.weights import load_variables, load_weights


def remove(path, *names):
    """Removes tensors from a file, and the digest from its header."""
    with safetensors.safe_open(path, "numpy") as file:
        header = {key: value for key, value in (file.metadata() or {}).items() if key != DIGEST}
    state = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({name: value for name, value in state.items() if name not in names}, path, header)


def without_head(variables):
    kept = copy.deepcopy(variables)
    kept["params"].pop("classifier", None)
    return kept


@pytest.mark.parametrize("num_classes", [4, 0])
def test_a_new_head_is_fresh_and_the_rest_is_loaded(saved, tiny, num_classes):
    weights = load_weights(saved, new_head=num_classes)
    head = weights.variables["params"].get("classifier")
    assert reference.equal(without_head(weights.variables), without_head(tiny))
    assert len(weights.new) == (2 if num_classes else 0)
    assert not set(weights.new) & set(weights.loaded)
    assert weights.model().num_classes == num_classes
    if num_classes:
        assert head["kernel"].shape == (320, num_classes)
        assert not head["bias"].any()
        same, other = (load_weights(saved, new_head=num_classes, seed=seed).variables for seed in (0, 1))
        np.testing.assert_array_equal(head["kernel"], same["params"]["classifier"]["kernel"])
        assert not np.array_equal(head["kernel"], other["params"]["classifier"]["kernel"])


def test_a_head_with_the_number_of_classes_is_kept(saved, tiny):
    weights = load_weights(saved, num_classes=10)
    assert reference.equal(weights.variables, tiny)
    assert weights.new == ()


@pytest.mark.parametrize("num_classes", [4, 0])
def test_a_head_with_another_number_of_classes_is_replaced(saved, num_classes):
    weights, expected = load_weights(saved, num_classes=num_classes), load_weights(saved, new_head=num_classes)
    assert reference.equal(weights.variables, expected.variables)
    assert (weights.new, weights.provenance) == (expected.new, expected.provenance)


def test_a_file_without_a_head_is_refused_unless_a_head_is_asked_for(timm_file, tiny):
    remove(timm_file, "classifier.weight", "classifier.bias")
    with pytest.raises(ValueError, match=r"has no classifier.*new_head=N"):
        load_variables(timm_file, reference.TINY, framework="timm")
    assert "classifier" not in load_variables(timm_file, reference.TINY, framework="timm", new_head=0)["params"]
    weights = load_weights(timm_file, reference.TINY, num_classes=3)
    assert reference.equal(without_head(weights.variables), without_head(tiny))
    assert weights.variables["params"]["classifier"]["kernel"].shape == (320, 3)


def test_a_recorded_head_that_is_missing_is_replaced(saved, tiny):
    remove(saved, "params/classifier/kernel", "params/classifier/bias")
    weights = load_weights(saved, num_classes=10)
    assert reference.equal(without_head(weights.variables), without_head(tiny))
    assert weights.new == ("params/classifier/kernel", "params/classifier/bias")


def test_a_head_without_bias_is_refused(timm_file):
    remove(timm_file, "classifier.bias")
    with pytest.raises(ValueError, match=r"1 unknown: classifier\.weight"):
        load_variables(timm_file, reference.TINY, framework="timm", new_head=3)
