"""The rows against the published name lists, and as bijections."""

import dataclasses

import pytest
from flax import traverse_util
from golden import reference

from effnetv2_jax import VARIANTS, create_model
from effnetv2_jax.convert.formats.pth_file import counter_names
from effnetv2_jax.convert.layouts import LAYOUTS
from effnetv2_jax.convert.names import tensor_rows
from effnetv2_jax.model.initializers import variable_shapes


def foreign_shapes(convention, spec, num_classes):
    layouts = LAYOUTS[convention]
    rows = tensor_rows(spec, num_classes)
    return {row.name(convention): layouts[row.kind].shape(row.shape) for row in rows}


@pytest.mark.parametrize("network", reference.names("official"))
def test_official_names_and_shapes_in_order(network):
    spec, num_classes = reference.official_spec(network)
    expected = reference.names("official")[network]
    assert list(foreign_shapes("official", spec, num_classes).items()) == list(expected.items())


@pytest.mark.parametrize("network", reference.names("torch"))
def test_torch_names_and_shapes(network):
    convention, spec = reference.torch_spec(network)
    counters = dict.fromkeys(counter_names(tensor_rows(spec, 1000), convention), ())
    assert foreign_shapes(convention, spec, 1000) | counters == reference.names("torch")[network]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_map_is_a_bijection(variant):
    rows = tensor_rows(VARIANTS[variant], 1000)
    assert len({row.path for row in rows}) == len(rows)
    conventions = ("article",) if variant.startswith("article") else ("official", "timm", "torchvision")
    for convention in (*conventions, "flax"):
        assert len({row.name(convention) for row in rows}) == len(rows)
    assert all(set(row.names) == {*conventions, "flax"} for row in rows)


def check_model(spec, num_classes):
    shapes = traverse_util.flatten_dict(variable_shapes(create_model(spec, num_classes=num_classes)), sep="/")
    rows = {row.path: row.shape for row in tensor_rows(spec, num_classes)}
    assert {path: leaf.shape for path, leaf in shapes.items()} == rows


@pytest.mark.parametrize(
    "spec", [reference.TINY, VARIANTS["efficientnet-b0"], reference.ARTICLE_TINY], ids=lambda spec: spec.name
)
@pytest.mark.parametrize("num_classes", [0, 7])
def test_rows_are_the_model_s_leaves(spec, num_classes):
    check_model(spec, num_classes)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_every_variant_s_leaves(variant):
    check_model(VARIANTS[variant], 1000)


def test_a_missing_counterpart_is_named():
    with pytest.raises(ValueError, match=r"timm has no network with params/stem_conv/kernel; this one fits article"):
        tensor_rows(VARIANTS["article-s"], 10)[0].name("timm")


def test_a_searched_block_with_a_squeeze_has_names_only_here():
    base = VARIANTS["efficientnetv2-s"]
    row = dataclasses.replace(base.rows[1], se_ratio=0.25)
    squeezed = dataclasses.replace(base, rows=(base.rows[0], row, *base.rows[2:]))
    of_block = [row for row in tensor_rows(squeezed, 10) if row.path.startswith("params/block_2/")]
    assert of_block
    assert all(set(row.names) == {"flax"} for row in of_block)
