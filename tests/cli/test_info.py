"""`effnetv2 info`, and the help of the commands that need no extra."""

import argparse
import importlib
import re

import pytest

from effnetv2_jax.cli.commands.info import _rounded
from effnetv2_jax.cli.main import main


def test_small_components_have_their_multiply_adds_in_thousands_or_millions(capsys):
    assert main(["info", "efficientnetv2-b0", "--image-size", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    stem, total = (next(line for line in lines if name in line.split()) for name in ("stem", "total"))
    assert stem.split()[-2:] == ["221", "k"]  # 16 · 16 outputs, 3 · 3 · 3 · 32 weights
    assert re.search(r"\d\d\.\d M$", total.strip())
    assert not [line for line in lines if "0.00" in line]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (9_996, "10.0 k"),
        (99_960, "100 k"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),
        (717_000_000, "717 M"),
        (93_430_000_000, "93.4 B"),
    ],
)
def test_counts_have_three_digits(count, text):
    assert _rounded(count) == text


@pytest.mark.parametrize("command", ["info", "predict", "convert"])
def test_the_help_gives_the_default_of_every_option(command):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"effnetv2_jax.cli.commands.{command}").add_arguments(parser)
    optional = [action for action in parser._actions if not action.required and action.dest != "help"]
    assert optional
    assert [action.dest for action in optional if "(default: " not in action.help] == []


def test_a_variant_is_drawn(tmp_path, capsys):
    assert main(["info", "efficientnetv2-b0", "--image-size", "32", "--picture", str(tmp_path / "b0.png")]) == 0
    assert (tmp_path / "b0.png").read_bytes().startswith(b"\x89PNG")
    assert main(["info", "--picture", str(tmp_path / "all.png")]) == 2
    assert "--picture needs a variant or a file with a spec" in capsys.readouterr().err
