"""The names of each framework equal the published ones and are unique in every variant."""

import dataclasses

import pytest
from golden import reference

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.frameworks.table import (
    FRAMEWORKS,
    check_structure,
    framework_named,
    matching_frameworks,
    target_named,
)
from effnetv2_jax.convert.tensors import network_tensors


def squeezed_fused_spec():
    """Returns an architecture with fused blocks with squeeze and excitation, which no other framework has."""
    base = VARIANTS["efficientnetv2-s"]
    row = dataclasses.replace(base.rows[1], se_ratio=0.25)
    return dataclasses.replace(base, rows=(base.rows[0], row, *base.rows[2:]))


@pytest.mark.parametrize("network", reference.names("official"))
def test_official_names_and_shapes_equal_the_published_ones_in_order(network):
    spec, num_classes = reference.official_spec(network)
    expected = reference.names("official")[network]
    assert list(reference.framework_shapes("official", spec, num_classes).items()) == list(expected.items())


@pytest.mark.parametrize("network", reference.names("torch"))
def test_pytorch_names_and_shapes_equal_the_published_ones(network):
    framework, spec = reference.torch_spec(network)
    counters = FRAMEWORKS[framework].counter_names(network_tensors(spec, 1000))
    expected = reference.names("torch")[network]
    assert reference.framework_shapes(framework, spec, 1000) | dict.fromkeys(counters, ()) == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_names_of_a_framework_are_unique(variant):
    spec = VARIANTS[variant]
    tensors = network_tensors(spec, 1000)
    assert len({tensor.path for tensor in tensors}) == len(tensors)
    expected = {"article"} if variant.startswith("article") else {"official", "timm", "torchvision"}
    expected |= {"keras"} if variant.startswith("efficientnetv2") else set()
    assert {name for name, framework in FRAMEWORKS.items() if framework.has_network(spec)} == {*expected, "flax"}
    for name in (*expected, "flax"):
        assert len({FRAMEWORKS[name].name_of(tensor) for tensor in tensors}) == len(tensors)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["timm", "torchvision", "article"])
def test_the_names_of_a_file_match_one_framework(name, variant):
    spec = VARIANTS[variant]
    if FRAMEWORKS[name].has_network(spec):
        names = reference.framework_shapes(name, spec, 0)
        assert matching_frameworks(names, spec, "safetensors") == (FRAMEWORKS[name],)


def test_names_of_another_architecture_match_no_framework():
    names = reference.framework_shapes("article", VARIANTS["article-s"], 0)
    assert matching_frameworks(names, VARIANTS["efficientnetv2-s"], "safetensors") == ()


def test_an_unknown_structure_is_refused_with_the_frameworks_that_have_it():
    with pytest.raises(ValueError, match=r"timm has no network .* article-s.*: article, flax"):
        check_structure(FRAMEWORKS["timm"], VARIANTS["article-s"])
    with pytest.raises(ValueError, match=r"article has no network.*: official, timm, torchvision, keras, flax"):
        check_structure(FRAMEWORKS["article"], VARIANTS["efficientnetv2-s"])
    check_structure(FRAMEWORKS["article"], VARIANTS["article-s"].scaled(width=0.5, depth=0.1))


def test_a_fused_block_with_squeeze_and_excitation_has_names_only_in_flax():
    spec = squeezed_fused_spec()
    assert [name for name, framework in FRAMEWORKS.items() if framework.has_network(spec)] == ["flax"]
    of_block = [tensor for tensor in network_tensors(spec, 10) if tensor.path.startswith("params/block_2/")]
    assert of_block
    for name in ("official", "timm", "torchvision", "keras", "article"):
        with pytest.raises(ValueError, match=f"{name} has no counterpart of params/block_2/.*fused, se, project"):
            FRAMEWORKS[name].name_of(of_block[0])


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"unknown framework 'mxnet'.*official, timm, torchvision, keras, article, flax"
    ):
        framework_named("mxnet")
    with pytest.raises(ValueError, match=r"unknown target 'official'.*: timm, torchvision, article, flax"):
        target_named("official")
