"""Damaged forms of a valid file: flipped bits, cuts, zeroed blocks, spliced bytes, changed numbers, and noise."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 20_000, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
LARGE_NUMBERS = (1 << 40, 10**18, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_NOISE = st.binary(min_size=1, max_size=40)


@st.composite
def damaged(draw: st.DrawFn, valid: bytes, places: Sequence[int] = ()) -> bytes:
    """Draws a damaged form of a file.

    Args:
      draw: hypothesis's.
      valid: the file.
      places: positions of numbers in it.
    """
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=400))
    data = valid
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        size = draw(st.sampled_from((1, 2, 4, 8, 64, 512, 4096)))
        kind = draw(st.sampled_from(("flip", "cut", "remove", "zero", "noise", "insert", "repeat", *["number"] * 5)))
        match kind:
            case "flip":
                flipped = data[start : start + 1]
                data = data[:start] + bytes(b ^ 1 << draw(st.integers(0, 7)) for b in flipped) + data[start + 1 :]
            case "cut":
                data = data[:start]
            case "remove":
                data = data[:start] + data[start + size :]
            case "zero":
                data = data[:start] + bytes(len(data[start : start + size])) + data[start + size :]
            case "noise":
                noise = draw(_NOISE)
                data = data[:start] + noise + data[start + len(noise) :]
            case "insert":
                data = data[:start] + draw(_NOISE) + data[start:]
            case "repeat":
                other = draw(st.integers(0, max(len(data) - 1, 0)))
                data = data[:start] + data[other : other + size] + data[start:]
            case "number":
                place = draw(st.sampled_from(places)) if places else start
                width = draw(st.sampled_from((1, 2, 4, 8)))
                number = draw(st.sampled_from((*NUMBERS, *LARGE_NUMBERS)))
                encoded = (number % (1 << 8 * width)).to_bytes(width, draw(st.sampled_from(("little", "big"))))
                data = data[:place] + encoded + data[place + width :]
    return data


def json_values() -> st.SearchStrategy:
    """Returns a strategy of values that JSON can hold, some of them odd."""
    odd = ("", "NaN", "inf", "1e999", "9" * 5000, "[" * 3000, "\0", "\x1b[2J", "../../etc/passwd", "a" * 100_000)
    plain = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(odd),
        st.sampled_from((*NUMBERS, *LARGE_NUMBERS, -1, -(1 << 63))),
    )  # fmt: skip
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    )
