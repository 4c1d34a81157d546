"""The stages of progressive learning have exactly the published values."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnetv2_jax import VARIANTS
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig, make_stages, stage_at


def stages(variant, total_steps=400, **fields):
    return make_stages(ProgressiveConfig(**fields), VARIANTS[variant], total_steps)


def column(variant, name, **fields):
    return [getattr(stage, name) for stage in stages(variant, **fields)]


# Source: the official main.py and effnetv2_configs.py.
OFFICIAL_SIZES = {
    "efficientnetv2-s": [171, 214, 257, 300], "efficientnetv2-m": [192, 256, 320, 384],
    "efficientnetv2-l": [192, 256, 320, 384], "efficientnetv2-xl": [192, 256, 320, 384],
    "efficientnetv2-b0": [144, 160, 176, 192], "efficientnetv2-b1": [144, 160, 176, 192],
    "efficientnetv2-b2": [148, 168, 188, 208], "efficientnetv2-b3": [156, 184, 212, 240],
}  # fmt: skip
OFFICIAL_MAGNITUDES = {"s": 10, "m": 15, "l": 20, "xl": 20}
OFFICIAL_ALPHAS = {"s": 0.0, "m": 0.2, "l": 0.5, "xl": 0.5}
DROPOUT = {"s": 0.2, "m": 0.3, "l": 0.4, "xl": 0.4, "b0": 0.2, "b1": 0.2, "b2": 0.3, "b3": 0.3}


@pytest.mark.parametrize("variant", OFFICIAL_SIZES)
def test_the_official_preset_has_the_values_of_the_official_code(variant):
    letter = variant.removeprefix("efficientnetv2-")
    assert column(variant, "image_size") == OFFICIAL_SIZES[variant]
    assert column(variant, "dropout_rate") == [DROPOUT[letter]] * 4
    assert column(variant, "drop_path_rate") == [0.2] * 4
    last = OFFICIAL_MAGNITUDES.get(letter, 10)
    assert column(variant, "magnitude") == pytest.approx([5, 5 + (last - 5) / 3, 5 + 2 * (last - 5) / 3, last])
    alpha = OFFICIAL_ALPHAS.get(letter, 0.0)
    for name in ("mixup_alpha", "cutmix_alpha"):
        assert column(variant, name) == pytest.approx([0, alpha / 3, 2 * alpha / 3, alpha])


@pytest.mark.parametrize(
    ("variant", "sizes", "magnitudes", "mixup", "dropout"),
    [
        ("efficientnetv2-s", [128, 185, 242, 300], [5, 8.3333, 11.6667, 15], [0] * 4, [0.1, 0.16667, 0.23333, 0.3]),
        ("efficientnetv2-m", [128, 212, 296, 380], [5, 10, 15, 20], [0, 0.066667, 0.133333, 0.2], [0.1, 0.2, 0.3, 0.4]),
        ("efficientnetv2-l", [128, 212, 296, 380], [5, 11.6667, 18.3333, 25], [0, 0.133333, 0.266667, 0.4],
         [0.1, 0.233333, 0.366667, 0.5]),
    ],
)  # fmt: skip
def test_the_paper_preset_has_the_values_of_table_6(variant, sizes, magnitudes, mixup, dropout):
    rows = {"image_size": sizes, "magnitude": magnitudes, "mixup_alpha": mixup, "dropout_rate": dropout}
    for name, expected in rows.items():
        assert column(variant, name, preset="paper") == pytest.approx(expected, abs=1e-4), name
    assert column(variant, "cutmix_alpha", preset="paper") == [0] * 4


def test_article_and_scaled_networks_use_the_preset_of_their_size():
    assert column("article-m", "mixup_alpha") == column("efficientnetv2-m", "mixup_alpha")
    scaled = make_stages(ProgressiveConfig(), VARIANTS["efficientnetv2-m"].scaled(0.5), 400)
    assert [stage.mixup_alpha for stage in scaled] == column("efficientnetv2-m", "mixup_alpha")


def test_given_ranges_replace_those_of_the_preset():
    assert column("efficientnetv2-s", "image_size", image_size=(64, 128)) == [64, 85, 106, 128]
    assert column("efficientnetv2-s", "image_size", image_size=(64, 96, 96, 128)) == [64, 96, 96, 128]
    assert column("efficientnetv2-s", "dropout_rate", dropout_rate=(0.0, 0.3)) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert column("efficientnetv2-s", "magnitude", dropout_rate=(0.0, 0.3)) == column("efficientnetv2-s", "magnitude")


def test_a_single_stage_takes_the_last_value_of_each_range():
    (stage,) = stages("efficientnetv2-m", stages=1)
    assert (stage.image_size, stage.magnitude, stage.mixup_alpha) == (384, 15, 0.2)
    assert stages("efficientnetv2-m", stages=1, preset="paper")[0].image_size == 380


@given(total_steps=st.integers(1, 10_000), count=st.integers(1, 12))
def test_stages_cover_every_step_once_and_are_equally_long(total_steps, count):
    if count > total_steps:
        with pytest.raises(ValueError, match="stages must be between"):
            stages("efficientnetv2-s", total_steps, stages=count)
        return
    made = stages("efficientnetv2-s", total_steps, stages=count)
    assert made[0].first_step == 0
    assert made[-1].end_step == total_steps
    for before, after in itertools.pairwise(made):
        assert before.end_step == after.first_step
        assert abs(before.steps - after.steps) <= 1
    for stage in made:
        assert stage_at(made, stage.first_step) == stage
        assert stage_at(made, stage.end_step - 1) == stage
    assert stage_at(made, total_steps) == made[-1]


@pytest.mark.parametrize(
    ("variant", "fields", "message"),
    [
        (
            "efficientnetv2-b0",
            {"preset": "paper"},
            "efficientnetv2-b0.* s, m, l",
        ),
        ("efficientnetv2-s", {"preset": "custom"}, "needs progressive.image_size"),
        ("efficientnetv2-s", {"stages": 0}, "stages must be between 1 and"),
        ("efficientnetv2-s", {"image_size": (16, 64)}, "17 px.* progressive.image_size 16"),
        ("efficientnetv2-s", {"image_size": (32, 48, 64)}, " 2 values .* 4 stages"),
        ("efficientnetv2-s", {"dropout_rate": (0.0, 1.0)}, r"progressive.dropout_rate .*\[0, 1\).* 1"),
        ("efficientnetv2-s", {"mixup_alpha": (-1.0, 0.0)}, "progressive.mixup_alpha .*-1"),
        ("efficientnetv2-s", {"magnitude": (0.0, 50.0)}, "progressive.magnitude .*50"),
    ],
)
def test_values_out_of_range_are_refused(variant, fields, message):
    with pytest.raises(ValueError, match=message):
        stages(variant, **fields)


def test_a_stage_for_the_classifier_comes_first_and_the_others_share_the_rest():
    config = ProgressiveConfig(
        preset="custom", stages=2, image_size=(32, 64), drop_path_rate=(0.2, 0.4), head_epochs=1.5
    )
    stages = make_stages(config, VARIANTS["efficientnetv2-b0"], 100, steps_per_epoch=10.0)
    assert [(stage.name, stage.first_step, stage.end_step) for stage in stages] == [
        ("stage_1", 0, 15),
        ("stage_2", 15, 57),
        ("stage_3", 57, 100),
    ]
    assert [stage.head_only for stage in stages] == [True, False, False]
    assert [stage.image_size for stage in stages] == [32, 32, 64]
    assert [stage.drop_path_rate for stage in stages] == [0.0, 0.2, 0.4]


@pytest.mark.parametrize(
    ("epochs", "message"), [(-1.0, "head_epochs .* at least 0, got -1.0"), (10.0, "10 is 100 steps, .* leaves none")]
)
def test_a_stage_for_the_classifier_that_does_not_fit_is_refused(epochs, message):
    config = ProgressiveConfig(preset="custom", stages=1, image_size=(32,), head_epochs=epochs)
    with pytest.raises(ValueError, match=message):
        make_stages(config, VARIANTS["efficientnetv2-b0"], 100, steps_per_epoch=10.0)
