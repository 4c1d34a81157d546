"""`effnetv2 config`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import textwrap

from effnetv2_jax.cli.config_file import config_help, load_config
from effnetv2_jax.config_fields import ConfigField, config_fields

_INDENT = "    "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("config", metavar="CONFIG[:ARGUMENT]", help=config_help())
    parser.set_defaults(takes_overrides=True)
    parser.add_argument("--json", action="store_true", help="print JSON, one object for each field")


def run(arguments: argparse.Namespace) -> int:
    """Prints every field of a config with its value, type and meaning."""
    fields = list(config_fields(load_config(arguments)))
    if arguments.json:
        print(json.dumps([dataclasses.asdict(field) for field in fields], indent=1, ensure_ascii=False))
    else:
        width = min(shutil.get_terminal_size().columns, 120)
        print("\n".join(_paragraph(field, width) for field in fields))
    return 0


def _paragraph(field: ConfigField, width: int) -> str:
    """Returns the field as the command line writes it, and its type and meaning below."""
    text = f"{field.type}; {field.meaning}" if field.meaning else field.type
    indented = textwrap.fill(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return f"--config.{field.name}={_written(field.value)}\n{indented}"


def _written(value: object) -> str:
    """Returns a value as the command line accepts it."""
    return f"'{value}'" if isinstance(value, tuple) else str(value)
