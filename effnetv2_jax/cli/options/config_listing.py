"""The fields of a config as text, and `--help`, which shows them after `--config CONFIG`."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from typing import TYPE_CHECKING, Any

from effnetv2_jax.cli.options.config_file import UsageError, load_config
from effnetv2_jax.config_fields import ConfigField, config_fields

if TYPE_CHECKING:
    from effnetv2_jax.train.config import TrainConfig

_INDENT = "    "


class Help(argparse.Action):
    """Prints the help of a command, and the fields of the config that precedes `--help`, and ends the process."""

    def __init__(self, option_strings: list[str], **arguments: Any) -> None:
        super().__init__(option_strings, **arguments | {"nargs": 0, "dest": argparse.SUPPRESS})

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        parser.print_help()
        name = getattr(namespace, "config", None)
        if name:
            try:
                config = load_config(argparse.Namespace(config=name, overrides=[]))
            except UsageError as error:
                parser.error(str(error))
            print(f"\nthe fields of {name}:\n\n{listed_fields(config)}")
        parser.exit()


def listed_fields(config: TrainConfig) -> str:
    """Returns every field of a config as the command line writes it, and its type and meaning below."""
    width = min(shutil.get_terminal_size().columns, 120)
    return "\n".join(_paragraph(field, width) for field in config_fields(config))


def _paragraph(field: ConfigField, width: int) -> str:
    text = f"{field.type}; {field.meaning}" if field.meaning else field.type
    indented = textwrap.fill(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return f"--config.{field.name}={_written(field.value)}\n{indented}"


def _written(value: object) -> str:
    """Returns a value as the command line accepts it."""
    return f"'{value}'" if isinstance(value, tuple) else str(value)
