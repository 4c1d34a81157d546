"""`--config CONFIG[:ARGUMENT] --config.FIELD=VALUE`: the configuration of a run on the command line."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

from absl import flags

from effnetv2_jax.cli.own_configs import config_path, own_configs
from effnetv2_jax.config_fields import config_fields


class UsageError(ValueError):
    """The command line is wrong. The exit code is 2."""


def add_config_argument(parser: argparse.ArgumentParser, *, default: str = "", required: bool = True) -> None:
    """Declares `--config`. The overrides of its fields are parsed later, by `load_config`.

    Args:
      parser: the command's parser.
      default: what the command uses without the argument, as the help text describes it.
      required: whether the command needs it.
    """
    parser.add_argument(
        "--config",
        required=required,
        metavar="CONFIG[:ARGUMENT]",
        help=config_help() + (f" (default: {default})" if default else ""),
    )
    parser.set_defaults(takes_overrides=True)
    parser.epilog = "--config.FIELD=VALUE replaces a field of the config, as in --config.optimizer.clip_norm=1.0"


def config_help() -> str:
    """Returns the help text of an argument that names a config."""
    return (
        f"one of the project's own configs ({', '.join(own_configs())}) or a path, as in my_configs/mine.py; then "
        "the config's argument if it takes one, as in imagenet1k:efficientnetv2-s. A path such as configs/digits.py "
        "means your file if it exists, and otherwise the project's own config"
    )


def load_config(arguments: argparse.Namespace) -> Any:
    """Returns the `TrainConfig` that `get_config` of a config file returns, with the overrides applied.

    Raises:
      UsageError: for a missing file, an unknown field, or a value of the wrong type.
    """
    from ml_collections import config_flags

    name, colon, argument = arguments.config.partition(":")
    try:
        path = config_path(name)
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error
    command_line = ["effnetv2", f"--config={path}{colon}{argument}", *arguments.overrides]
    config = _parsed(functools.partial(config_flags.DEFINE_config_file, "config"), command_line)
    if not dataclasses.is_dataclass(config):
        raise UsageError(f"{path}: get_config must return a TrainConfig")
    return config


def with_overrides(config: Any, arguments: argparse.Namespace) -> Any:
    """Returns a config with the command line's overrides applied.

    Raises:
      UsageError: for an unknown field, or a value of the wrong type.
    """
    from ml_collections import config_flags

    command_line = ["effnetv2", *arguments.overrides]
    return _parsed(functools.partial(config_flags.DEFINE_config_dataclass, "config", config), command_line)


def _parsed(define: Callable[..., object], command_line: Sequence[str]) -> Any:
    """Returns the config that a command line gives; `define` defines its flag `config`."""
    from ml_collections import config_flags

    from effnetv2_jax.train.config import TrainConfig

    for field in config_fields(TrainConfig()):
        if field.choices:
            config_flags.register_flag_parser_for_type(Literal[field.choices], flags.EnumParser(list(field.choices)))
    values = flags.FlagValues()
    try:
        define(flag_values=values, sys_argv=command_line)
        rest = values(command_line, known_only=True)[1:]
        config = values.config
    except KeyError as error:
        raise UsageError(_unknown_field(command_line, error)) from error
    except (flags.Error, TypeError, AttributeError) as error:
        raise UsageError(_reason(error)) from error
    if rest:
        raise UsageError(f"unknown arguments: {' '.join(rest)}")
    return config


def _unknown_field(command_line: Sequence[str], error: KeyError) -> str:
    """Returns a message about the first override of an unknown field, with the fields of similar names."""
    from effnetv2_jax.train.config import TrainConfig

    known = [field.name for field in config_fields(TrainConfig())]
    for argument in command_line:
        name = argument.partition("=")[0].removeprefix("--config.")
        if argument.startswith("--config.") and name not in known:
            last = [field for field in known if field.rpartition(".")[2] == name.rpartition(".")[2]]
            near = last or difflib.get_close_matches(name, known, n=3)
            suggestion = f"did you mean {' or '.join(near)}? " if near else ""
            return f"unknown field {name!r}; {suggestion}`effnetv2 config CONFIG` lists all fields"
    return str(error.args[0])


def _reason(error: Exception) -> str:
    """Returns one line of an error's message; if the config file itself failed, the last line of its traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1].partition(": ")[2] if "Traceback (most recent call last):" in lines else lines[0]
