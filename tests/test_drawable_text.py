"""Text that a picture can show."""

import warnings

import pytest
from matplotlib.figure import Figure

from effnetv2_jax.drawable_text import DEFAULT_FAMILY, drawable, families, shortened

NAMES = ["cat", "naïve ẞ", "قطة", "猫", "日本語", "हिन्दी", "😀🐈‍⬛", "☕️", "a\nb\tc", "\udc80", "$x$", "\ue000"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_drawn_without_a_warning(name):
    figure = Figure()
    figure.text(0, 0, drawable(name), fontfamily=families(name), parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()


@pytest.mark.parametrize("name", ["cat", "naïve ẞ", "$x$", "ж", ""])
def test_what_the_default_font_has_is_kept(name):
    assert drawable(name) == name
    assert families(name) == [DEFAULT_FAMILY]


@pytest.mark.parametrize(("name", "shown"), [("a\nb", r"a\nb"), ("\udc80", r"\udc80")])
def test_what_has_no_shape_is_escaped(name, shown):
    assert drawable(name) == shown


def test_a_character_that_no_font_has_is_escaped_and_a_joiner_left_out(monkeypatch):
    monkeypatch.setattr("effnetv2_jax.drawable_text._family", lambda character: "Font" if character < "\x80" else None)
    assert drawable("a 猫\u200d🐈") == r"a \u732b\U0001f408"


def test_an_installed_font_is_used_for_what_the_default_one_lacks():
    assert families("\u29b5")[0] == DEFAULT_FAMILY
    assert "STIXGeneral" in families("\u29b5")  # matplotlib comes with it


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [("abcdef", 6, "abcdef"), ("abcdefg", 6, "abcde…"), ("猫猫猫", 6, "猫猫猫"), ("猫猫猫", 5, "猫猫…")],
)
def test_text_is_shortened_to_the_columns_that_it_fills(text, columns, shown):
    assert shortened(text, columns) == shown
