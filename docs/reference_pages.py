"""The parts of the documentation that are made from the code: commands, config fields, variants, published weights."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python._object import PyObject
from sphinx.util.docutils import SphinxDirective

from effnetv2_jax.cli.main import COMMANDS
from effnetv2_jax.cli.tables.pretrained import pretrained_cells
from effnetv2_jax.config_fields import ConfigField, config_fields
from effnetv2_jax.model.summary import count_multiply_adds, count_parameters
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.pretrained.published_weights import PublishedWeights
from effnetv2_jax.pretrained.table import TABLE
from effnetv2_jax.train.config import TrainConfig


def command_line() -> str:
    """Returns a section for each command with all of its arguments, as Markdown."""
    return "\n".join(line for name in COMMANDS for line in _command(name))


def _command(name: str) -> Iterator[str]:
    parser = argparse.ArgumentParser(prog=f"effnetv2 {name}", add_help=False, formatter_class=_Formatter)
    importlib.import_module(f"effnetv2_jax.cli.commands.{name}").add_arguments(parser)
    yield from (f"## {name}", "", COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".", "")
    yield from ("```text", parser.format_usage().removeprefix("usage: ").rstrip(), "```", "")
    yield from (f"```{{program}} effnetv2 {name}", "```", "")
    for group in parser._action_groups:
        if group._group_actions and group.description:
            yield from (f"**{str(group.title).capitalize()}.** {_code(group.description)}", "")
        for action in group._group_actions:
            if action.help != argparse.SUPPRESS:
                yield from (f":::{{option}} {_argument(action)}", _meaning(action), ":::", "")
    if parser.epilog:
        yield from (_code(parser.epilog) + ".", "")


class _Formatter(argparse.HelpFormatter):
    """Wraps at the same width on every terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=88)


def _argument(action: argparse.Action) -> str:
    """Returns how the argument is written, as in `--top K`."""
    value = action.metavar if isinstance(action.metavar, str) else (action.dest.upper() if action.nargs != 0 else "")
    if action.choices:
        value = "|".join(map(str, action.choices))
    if action.nargs == "?":
        value = f"[{value}]"
    names = action.option_strings or [""]
    return ", ".join(filter(None, (f"{name} {value}".strip() for name in names)))


def _meaning(action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": "effnetv2"}
    required = " (required)" if action.required and action.option_strings else ""
    return _code(_sentence(text, action.choices or ())) + required + "."


def _sentence(text: str, choices: Iterable[str] = ()) -> str:
    """Returns a text with a capital letter, unless it begins with code or one of the allowed values."""
    first = re.split(r"[^\w-]", text)[0]
    return text if first in choices or text.startswith("`") else text[:1].upper() + text[1:]


def _code(text: str) -> str:
    """Returns a text with its options, paths and values as code."""
    return re.sub(r"(?<![\w`/~.])((?:--|gs://|~/|configs/|WORKDIR/)[^\s;,)]*[\w…/'])", r"`\1`", text)


def config_reference() -> str:
    """Returns a section for each part of a config with all of its fields, as Markdown."""
    parts: dict[str, list[ConfigField]] = {}
    for field in config_fields(TrainConfig()):
        parts.setdefault(field.name.rpartition(".")[0], []).append(field)
    lines: list[str] = []
    for part in sorted(parts, key=bool):  # the fields of the run itself come first
        lines += [f"## {part or 'The run'}", ""]
        for field in parts[part]:
            lines += [f":::{{confval}} {field.name}", ":no-contents-entry:", ""]
            lines += [f"*{_type(field.type)}*; default `{_value(field.value)}`", ""]
            lines += [_sentence(field.meaning), ":::", ""]
    return "\n".join(lines)


def _type(text: str) -> str:
    return re.sub(r"'([^']*)'", r'`"\1"`', text)


def _value(value: Any) -> str:
    return repr(value).replace("'", '"')


def variants() -> str:
    """Returns a table of the variants, as Markdown."""
    rows = []
    for spec in VARIANTS.values():
        adds = count_multiply_adds(spec, spec.eval_size, 1000) / 1e9
        scores = ["–" if score is None else f"{score:.1f}" for score in (spec.top1, spec.top1_21k)]
        sizes = (str(spec.train_size), str(spec.eval_size))
        rows.append((f"`{spec.name}`", f"{count_parameters(spec, 1000):,}", f"{adds:.2f}", *sizes, *scores))
    titles = ("variant", "parameters", "adds, 10⁹", "train", "eval", "top-1", "21k→1k")
    return "\n".join(_table(titles, rows, right=range(1, 7)))


def pretrained() -> str:
    """Returns a table of the published weights of each framework, as Markdown."""
    titles = ("name", "file", "classes", "px", "crop", "family", "top-1", "MB", "licence", "checksum")
    lines: list[str] = []
    for framework in dict.fromkeys(row.framework for row in TABLE):
        rows = [row for row in TABLE if row.framework == framework]
        cells = [(f"`{row.name}`", _file(row), *pretrained_cells(row), row.checksum or "–") for row in rows]
        lines += [f"### {framework}", "", *_table(titles, cells, right=(2, 3, 6, 7))]
    return "\n".join(lines)


def _file(row: PublishedWeights) -> str:
    """Returns a link to the file of published weights, or to the page of their repository."""
    guessed = " (address not confirmed)" if row.address_is == "follows a pattern" else ""
    return f"[{row.file}]({row.address.replace('hf://', 'https://huggingface.co/')}){guessed}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "|".join("---:" if column in right else "---" for column in range(len(titles))) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("\n", " ") for cell in row) + " |"
    yield ""


class _Generated(SphinxDirective):
    """Parses the Markdown that a function of this module returns."""

    has_content = False
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns the nodes of the text."""
        self.env.note_reread()  # the text depends on the code, so each build makes it again
        makers = {
            "commands": command_line,
            "config": config_reference,
            "variants": variants,
            "pretrained": pretrained,
        }
        text = makers[self.arguments[0]]()
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _mark_code(app: Sphinx, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """Marks what a docstring writes between single backticks as code, except names, which become links."""
    del app, what, name, documented, options

    def marked(span: re.Match[str]) -> str:
        return span[0] if re.fullmatch(r"[A-Za-z_][\w.]*", span[1]) else f"``{' '.join(span[1].split())}``"

    lines[:] = re.sub(r"`([^`]+)`", marked, "\n".join(lines)).split("\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the directive `generated`, and prepares the docstrings."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("generated", _Generated)
    app.connect("autodoc-process-docstring", _mark_code, priority=400)  # before napoleon
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Fields"  # Sphinx writes "Variables", which means something else here
    return {"parallel_read_safe": True}
