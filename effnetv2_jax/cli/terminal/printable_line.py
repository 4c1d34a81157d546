"""Messages as one line that a terminal can show."""

_MOST = 4000


def printable_line(text: str) -> str:
    """Returns a text as one line of at most 4,000 characters.

    Names in a file may come from anyone, and could contain codes that change the terminal. Such characters are
    replaced by their escapes, such as `\\x1b`.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    return line if len(line) <= _MOST else f"{line[: _MOST - 1]}…"
