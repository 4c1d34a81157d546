"""Messages as a terminal can show them."""

from hypothesis import given
from hypothesis import strategies as st

from effnetv2_jax.cli.terminal.printable_line import printable_line


def test_codes_for_the_terminal_become_text():
    assert printable_line("a\x1b[2Jb\u202e\n  é\0") == "a\\x1b[2Jb\\u202e é\\x00"


def test_a_long_message_is_cut():
    assert printable_line("a" * 10_000) == "a" * 3999 + "…"


@given(st.text(st.characters()))
def test_every_text_becomes_one_line_that_can_be_printed(text):
    line = printable_line(text)
    assert line.isprintable()
    assert line.encode().decode() == line
