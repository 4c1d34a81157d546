"""The documentation: it builds without a warning, and its commands and Python snippets work."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from effnetv2_jax import create_model, init_variables, save_variables
from effnetv2_jax.cli.main import COMMANDS, main
from effnetv2_jax.cli.options.config_file import load_config
from effnetv2_jax.train.config import FIELDS_ON_REQUEST, FREE_FIELDS

ROOT = Path(__file__).parent.parent
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "docs").glob("*.md")} | {
    name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """Yields the words of each call of `effnetv2` on a page, in blocks and in sentences."""
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"(?<!`)`(effnetv2 [^`…]+)`(?!`)", text.replace("\n", " "))
    for line in lines:
        words = shlex.split(line, comments=True)
        quoted = [word.partition("=")[2] for word in words if word.startswith("--command=")]
        words = shlex.split(quoted[0]) if quoted else words
        if "effnetv2" in words:
            yield words[words.index("effnetv2") + 1 :]


COMMAND_LINES = sorted({(page, *words) for page, text in PAGES.items() for words in commands(text)})


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_the_commands_of_the_documentation_are_valid(monkeypatch, words):
    """Parses each command line and makes its config, without running it."""

    def check(arguments):
        return 0 if getattr(arguments, "config", None) is None else (load_config(arguments), 0)[1]

    for name in COMMANDS:
        monkeypatch.setattr(importlib.import_module(f"effnetv2_jax.cli.commands.{name}"), "run", check)
    if "--help" in words:
        with pytest.raises(SystemExit, match=r"^0$"):
            main(words[1:])
    elif len(words) == 2:  # the command is only named
        assert words[1] in COMMANDS
    else:
        assert main(words[1:]) == 0


def test_every_command_is_shown():
    assert {words[1] for words in COMMAND_LINES} >= COMMANDS.keys()


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if blocks(text, "python")])
def test_the_snippets_of_the_documentation_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variables = init_variables(create_model("efficientnetv2-b0"), 0)
    save_variables("tf_efficientnetv2_b0.safetensors", variables, "efficientnetv2-b0", target="timm")
    monkeypatch.setenv("EFFNETV2_JAX_CACHE", str(tmp_path / "cache"))  # where B0's published weights need no network
    published = tmp_path / "cache/weights/huggingface/timm/tf_efficientnetv2_b0.in1k"
    published.mkdir(parents=True)
    shutil.copy("tf_efficientnetv2_b0.safetensors", published / "model.safetensors")
    names = {"images": jnp.zeros((1, 64, 64, 3))}
    for block in blocks(PAGES[page], "python"):
        exec(block, names)
    if "logits" in names:
        np.testing.assert_array_equal(names["logits"].shape, (1, 1000))


def test_the_fields_that_may_change_are_listed_once_with_the_right_condition():
    section = PAGES["docs/training.md"].partition("## Only the same run resumes")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    listed = {True: [], False: []}
    for _, fields, condition, _ in rows:
        listed["--accept-changes" in condition] += re.findall(r"`([\w.]+)`", fields)
    assert sorted(listed[False]) == sorted(FREE_FIELDS)
    assert sorted(listed[True]) == sorted(FIELDS_ON_REQUEST)


def test_the_extras_that_are_shown_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    shown = {extra for text in PAGES.values() for found in re.findall(r"effnetv2_jax\[([\w,]+)\]", text)
             for extra in found.split(",")}  # fmt: skip
    assert shown
    assert shown <= extras.keys()


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page):
    """Sphinx checks the pages of docs/; this also covers README.md and CONTRIBUTING.md."""
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[\w-]+)?\)", PAGES[page]):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_pictures_are_small():
    pictures = list((ROOT / "docs/pictures").iterdir())
    assert pictures
    for path in pictures:
        assert path.stat().st_size < 150_000, path
        Image.open(path).verify()


def test_the_site_builds_without_a_warning(tmp_path):
    """A link to a page, a heading or a picture that does not exist is a warning, and `-W` makes it fail."""
    build = [sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "-q", ROOT / "docs", tmp_path]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "api/networks.html").read_text()
    assert "create_model" in page
    fields = (tmp_path / "config_fields.html").read_text()
    assert "optimizer.clip_norm" in fields
    assert "--workdir" in (tmp_path / "command_line.html").read_text()
