"""Text that a picture can show: fonts that have its characters, and escapes for the characters that no font has."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Set
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

DEFAULT_FAMILY = "DejaVu Sans"
"""The font that matplotlib comes with: Latin, Greek, Cyrillic, Arabic, Hebrew and many symbols."""

# matplotlib cannot draw the colours of the first, and the second has a box for every character.
_UNUSABLE = ("Color Emoji", "Last Resort")


def drawable(text: str) -> str:
    r"""Returns the text with an escape such as `\u732b` for each character that no installed font has.

    Characters without a shape of their own, such as a joiner, are left out if the fonts lack them.
    """
    return "".join(character if _drawn(character) else _replacement(character) for character in text)


def families(text: str) -> list[str]:
    """Returns the font families that have the characters of `drawable(text)`; matplotlib tries them in this order."""
    found = (_family(character) for character in text if _drawn(character))
    return list(dict.fromkeys([DEFAULT_FAMILY, *(family for family in found if family)]))


def shortened(text: str, columns: int) -> str:
    """Returns the text, cut and with an ellipsis if it is wider than `columns`; Chinese characters fill two columns."""
    if sum(map(_columns, text)) <= columns:
        return text
    kept, width = "", 0
    for character in text:
        width += _columns(character)
        if width > columns - 1:
            break
        kept += character
    return f"{kept}…"


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _drawn(character: str) -> bool:
    return character.isprintable() and _family(character) is not None


def _replacement(character: str) -> str:
    shapeless = unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"
    return "" if shapeless else character.encode("unicode_escape").decode()


@functools.cache
def _family(character: str) -> str | None:
    """Returns the first font family that has a character, or None. The installed fonts come after the default one."""
    for family in (DEFAULT_FAMILY, *_other_families()):
        if ord(character) in _characters(family):
            return family
    return None


@functools.cache
def _other_families() -> list[str]:
    from matplotlib.font_manager import fontManager

    upright = [font.name for font in fontManager.ttflist if _is_upright(font)]
    return sorted({name for name in upright if not any(word in name for word in (DEFAULT_FAMILY, *_UNUSABLE))})


def _is_upright(font: FontEntry) -> bool:
    """Returns whether a font has the style that texts ask for. Otherwise matplotlib would log a line about it."""
    normal = (font.style, font.variant, font.stretch) == ("normal", "normal", "normal")
    return normal and font.weight in (400, "normal", "regular")


@functools.cache
def _characters(family: str) -> Set[int]:
    """Returns the code points that a family has glyphs for."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    try:
        font = get_font(findfont(FontProperties(family=[family]), fallback_to_default=False))
    except (OSError, RuntimeError, ValueError):  # a font that FreeType cannot read
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()
