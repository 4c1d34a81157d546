"""Curves and grids of images."""

import warnings

import numpy as np
import pytest
from etils import epath
from PIL import Image

from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.report import pictures

STAGES = [Stage(0, 0, 100, 224, 0.0, 0.0, 0.0, 0.0, 0.0)]


@pytest.fixture
def panels(monkeypatch, tmp_path):
    """Draws curves and returns the panels by their titles."""
    saved = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: saved.append(figure))

    def draw(rows):
        pictures.draw_curves(epath.Path(tmp_path / "curves.png"), rows, STAGES, "title")
        return {axes.get_title(loc="left"): axes for axes in saved[-1].axes}

    return draw


def row(step, **changes):
    train = {"train/loss": 2.0 - step / 100, "train/learning_rate": 1e-3, "train/image_size": 224}
    results = {f"{name}/{key}": value for name in ("raw", "averaged") for key, value in (("loss", 1.0), ("top1", 50.0))}
    return {"step": step} | train | results | changes


def test_equal_curves_are_drawn_in_different_styles(panels):
    raw, averaged = panels([row(10), row(20)])["top-1, %"].lines
    assert raw.get_linewidth() > 2 * averaged.get_linewidth()  # the lower one shows on both sides of the upper one
    assert averaged.is_dashed()
    assert not raw.is_dashed()
    assert raw.get_markersize() > 2 * averaged.get_markersize()


@pytest.mark.parametrize(
    ("panel", "value", "changes"),
    [
        ("image size, px", 224, {}),
        ("learning rate", 1e-3, {"train/learning_rate": 1e-3 * (1 + 1e-7)}),
        ("top-1, %", 50.0, {}),
    ],
)
def test_an_axis_of_one_value_is_not_stretched_to_noise(panels, panel, value, changes):
    axes = panels([row(10), row(20, **changes)])[panel]
    low, high = axes.get_ylim()
    assert low < 0.95 * value < 1.05 * value < high
    axes.figure.draw_without_rendering()
    assert axes.yaxis.get_offset_text().get_text() == ""


def test_zero_and_what_is_not_a_number_have_a_range(panels):
    axes = panels([row(10, **{"train/learning_rate": 0.0, "train/loss": float("nan")})])
    assert axes["learning rate"].get_ylim() == (-1.0, 1.0)
    assert np.isfinite(axes["loss"].get_ylim()).all()


def test_values_that_differ_keep_their_range(panels):
    low, high = panels([row(10, **{"train/image_size": 128}), row(20)])["image size, px"].get_ylim()
    assert 120 < low <= 128 < 224 <= high < 232


NAMES = ["猫", "a$b$c", "\ue000 long name of a class", "plain"]


def test_captions_show_the_number_of_a_class_whose_name_cannot_be_drawn(monkeypatch):
    monkeypatch.setattr("effnetv2_jax.drawable_text._family", lambda character: "Font" if character < "\x80" else None)
    targets = np.array([[1, 0, 0, 0], [0, 0.25, 0, 0.75], [0, 0, 1, 0]], np.float32)
    assert pictures.target_captions(targets, NAMES) == [r"0 \u732b", "75% plain\n25% a$b$c", r"2 \ue000 long name …"]


def test_a_grid_with_any_names_is_drawn_without_a_warning(tmp_path):
    path = epath.Path(tmp_path / "grid.png")
    captions = [*NAMES, "75% قطة\n25% 🐈‍⬛", r"$\nonsense$"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.draw_grid(path, [np.zeros((8, 8, 3), np.uint8)] * len(captions), captions, "title")
    with Image.open(path) as picture:
        assert picture.size[0] > 600
