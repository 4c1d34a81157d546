"""The line that says what a command is doing."""

import io

import pytest

from effnetv2_jax.cli.terminal.progress_line import progress_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "written"),
    [(io.StringIO(), "one\ntwo\n"), (Terminal(), "\r\x1b[Kone\r\r\x1b[Ktwo\r\r\x1b[K")],
    ids=["file", "terminal"],
)
def test_a_text_is_a_line_in_a_file_and_replaces_the_last_one_on_a_terminal(stream, written, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream)

    def interrupted():
        with progress_line() as show:
            show("one")
            show("two")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue() == written
