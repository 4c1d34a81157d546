"""The architectures: every variant has its published size."""

import dataclasses

import jax
import numpy as np
import pytest

from effnetv2_jax import VARIANTS, create_model
from effnetv2_jax.model.specs import round_features
from effnetv2_jax.model.summary import components, count_multiply_adds, count_parameters
from effnetv2_jax.model.variables import variable_shapes
from effnetv2_jax.model.variants import get_spec

# Variant → trainable parameters, and their number together with the BatchNorm statistics, for 1,000 classes.
# Source: the official code for V2, torchvision for V1, the article's code for its networks.
PARAMETERS = {
    "efficientnetv2-b0": (7_139_704, 7_200_312),
    "efficientnetv2-b1": (8_141_052, 8_212_124),
    "efficientnetv2-b2": (10_096_086, 10_178_374),
    "efficientnetv2-b3": (14_358_406, 14_467_622),
    "efficientnetv2-s": (21_458_488, 21_612_360),
    "efficientnetv2-m": (54_139_356, 54_431_388),
    "efficientnetv2-l": (118_515_272, 119_027_848),
    "efficientnetv2-xl": (208_119_808, 208_896_832),
    "efficientnet-b0": (5_288_548, 5_330_564),
    "efficientnet-b1": (7_794_184, 7_856_232),
    "efficientnet-b2": (9_109_994, 9_177_562),
    "efficientnet-b3": (12_233_232, 12_320_528),
    "efficientnet-b4": (19_341_616, 19_466_816),
    "efficientnet-b5": (30_389_784, 30_562_520),
    "efficientnet-b6": (43_040_704, 43_265_136),
    "efficientnet-b7": (66_347_960, 66_658_680),
    "article-s": (22_103_832, None),
    "article-m": (55_300_016, None),
    "article-l": (119_355_792, None),
    "article-xl": (208_960_328, None),
}

# Variant → 10⁹ multiply-adds at the evaluation size. Source: computed from the tables of the papers.
MULTIPLY_ADDS = {
    "efficientnetv2-b0": 0.718, "efficientnetv2-b1": 1.197, "efficientnetv2-b2": 1.698, "efficientnetv2-b3": 3.011,
    "efficientnetv2-s": 8.366, "efficientnetv2-m": 24.58, "efficientnetv2-l": 56.08, "efficientnetv2-xl": 93.35,
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_its_exact_number_of_parameters(variant):
    trainable, with_statistics = PARAMETERS[variant]
    shapes = variable_shapes(create_model(variant))
    counts = {key: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree)) for key, tree in shapes.items()}
    assert counts["params"] == trainable
    if with_statistics is not None:
        assert counts["params"] + counts["batch_stats"] == with_statistics


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_summary_counts_the_parameters_and_statistics_of_the_network(variant):
    spec = VARIANTS[variant]
    assert count_parameters(spec) == PARAMETERS[variant][0]
    statistics = sum(component.statistics for component in components(spec, spec.eval_size))
    if PARAMETERS[variant][1] is not None:
        assert statistics == PARAMETERS[variant][1] - PARAMETERS[variant][0]


@pytest.mark.parametrize("variant", MULTIPLY_ADDS)
def test_multiply_adds_equal_those_computed_from_the_papers(variant):
    spec = VARIANTS[variant]
    digits = len(str(MULTIPLY_ADDS[variant]).split(".")[1])
    assert round(count_multiply_adds(spec, spec.eval_size) / 1e9, digits) == MULTIPLY_ADDS[variant]


@pytest.mark.parametrize(("image_size", "padding"), [(64, "same"), (75, "same"), (75, "symmetric"), (33, "symmetric")])
def test_the_shapes_in_the_summary_equal_those_of_the_network(image_size, padding):
    spec = dataclasses.replace(VARIANTS["efficientnet-b0"].scaled(0.25, 0.3), padding=padding)
    model = create_model(spec, num_classes=10)
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), np.float32)
    _, ends = jax.eval_shape(lambda v, x: model.apply(v, x, return_endpoints=True), variable_shapes(model), images)
    for component in components(spec, image_size, 10):
        name = {"head": "features"}.get(component.name, component.name)
        if name != "classifier":
            size = component.image_size
            assert ends[name].shape == (1, size, size, component.features), name


def test_v1_and_v2_round_the_widths_of_b3_differently():
    assert next(VARIANTS["efficientnet-b3"].blocks()).features == 24
    assert next(VARIANTS["efficientnetv2-b3"].blocks()).features == 16
    assert round_features(16 * 1.2, "divisible") == 24
    assert round_features(16 * 1.2, "nearest") == 16
    assert round_features(1, "nearest") == 8


def test_scaling_multiplies_width_and_depth():
    spec = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.3)
    blocks = list(spec.blocks())
    assert (spec.stem.features, spec.head_width, len(blocks)) == (8, 320, 9)
    assert [block.features for block in blocks] == [8, 8, 16, 24, 32, 32, 48, 48, 48]
    twice = VARIANTS["efficientnetv2-b0"].scaled(0.5).scaled(0.5, 0.3)
    assert list(twice.blocks()) == blocks
    with pytest.raises(ValueError, match="must be positive"):
        spec.scaled(width=0)


def test_an_unknown_variant_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'b0'.* efficientnetv2-s.* article-xl"):
        get_spec("b0")


def test_every_variant_has_a_citation_and_a_published_accuracy():
    for spec in VARIANTS.values():
        assert spec.citation
        assert spec.top1 is not None or spec.top1_21k is not None or spec.name.startswith("article-")


@pytest.mark.parametrize(
    ("variant", "blocks"), [("efficientnetv2-s", 40), ("efficientnetv2-b0", 21), ("efficientnetv2-b3", 32)]
)
def test_drop_path_rises_linearly_over_all_blocks_of_scaled_depths(variant, blocks):
    rates = VARIANTS[variant].drop_path_rates(0.2)
    assert len(rates) == blocks
    assert rates[0] == 0.0
    assert rates[blocks // 2] == pytest.approx(0.2 * (blocks // 2) / blocks)
    assert max(rates) == rates[-1] < 0.2  # Keras divides by the unscaled depth, so that B3 exceeds 0.2 there
