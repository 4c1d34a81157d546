"""`--config CONFIG[:ARGUMENT] --config.FIELD=VALUE`: the configuration of a run on the command line."""

from __future__ import annotations

import argparse
import re
import runpy
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from absl import flags

from effnetv2_jax.cli.options.own_configs import config_path, own_configs
from effnetv2_jax.config_fields import check_types, config_fields
from effnetv2_jax.similar_names import did_you_mean

if TYPE_CHECKING:
    from effnetv2_jax.train.config import TrainConfig


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
    parser.epilog = (
        "--config.FIELD=VALUE replaces a field of the config, as in --config.optimizer.clip_norm=1.0. "
        "`effnetv2 config CONFIG` lists all fields, and so does a --help that follows the config"
    )


def config_help() -> str:
    """Returns the help text of an argument that names a config."""
    return (
        f"one of the project's own configs ({', '.join(own_configs())}) or a path, as in my_configs/mine.py; then "
        "the config's argument if it takes one, as in imagenet1k:efficientnetv2-s. A path such as configs/digits.py "
        "means your file if it exists, and otherwise the project's own config"
    )


def load_config(arguments: argparse.Namespace) -> TrainConfig:
    """Returns the `TrainConfig` that `get_config` of a config file returns, with the overrides applied.

    Raises:
      UsageError: for a missing file, a file that fails or returns something else, an unknown field, or a value of the
        wrong type.
    """
    name, _, argument = arguments.config.partition(":")
    try:
        path = config_path(name)
    except (OSError, ValueError) as error:  # ValueError for a name with a null byte
        raise UsageError(str(error)) from error
    config = _returned(path, argument)
    try:
        check_types(config)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    return with_overrides(config, arguments)


def with_overrides(config: TrainConfig, arguments: argparse.Namespace) -> TrainConfig:
    """Returns a config with the command line's overrides applied.

    Raises:
      UsageError: for an unknown field, or a value of the wrong type.
    """
    from ml_collections import config_flags

    for field in config_fields(config):
        if field.choices:
            config_flags.register_flag_parser_for_type(Literal[field.choices], flags.EnumParser(list(field.choices)))
    foreign = [word for word in arguments.overrides if word.startswith("--") and not word.startswith("--config.")]
    if foreign:  # absl would follow some of them, such as --flagfile
        raise UsageError(f"unknown arguments: {' '.join(foreign)}")
    values = flags.FlagValues()
    command_line = ["effnetv2", *arguments.overrides]
    try:
        config_flags.DEFINE_config_dataclass("config", config, flag_values=values, sys_argv=command_line)
        rest = values(command_line, known_only=True)[1:]
        changed: TrainConfig = values.config
        check_types(changed)
    except KeyError as error:
        raise UsageError(_unknown_field(command_line, error)) from error
    except Exception as error:  # the parsers of absl and ml_collections fail in many ways
        raise UsageError(_wrong_value(config, _one_line(error))) from error
    if rest:
        raise UsageError(f"unknown arguments: {' '.join(rest)}")
    return changed


def named_fields(arguments: argparse.Namespace) -> set[str]:
    """Returns the names of the fields that the command line's overrides give a value, such as `data.preprocessing`."""
    names = (argument.partition("=")[0] for argument in arguments.overrides)
    return {name.removeprefix("--config.") for name in names if name.startswith("--config.")}


def _returned(path: Path, argument: str) -> TrainConfig:
    """Returns what `get_config` of a config file returns.

    For an exception, the message names the line of the file. Only a ValueError of the project's own configs, which
    refuses their argument, is passed on as it is.
    """
    from effnetv2_jax.train.config import TrainConfig

    try:
        module = runpy.run_path(str(path))
        if not callable(module.get("get_config")):
            raise UsageError(f"{path} has no function get_config")
        config = module["get_config"](*([argument] if argument else []))
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # the file is the user's own code
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        message = _one_line(error)
        refused = isinstance(error, ValueError) and message and path in own_configs().values()
        raise UsageError(message if refused else f"{place}: {type(error).__name__}: {message}".rstrip(": ")) from error
    if not isinstance(config, TrainConfig):
        raise UsageError(f"{path}: get_config must return a TrainConfig, got {type(config).__name__}")
    return config


def _unknown_field(command_line: Sequence[str], error: KeyError) -> str:
    """Returns a message about the first override of an unknown field, with the fields of similar names."""
    from effnetv2_jax.train.config import TrainConfig

    known = [field.name for field in config_fields(TrainConfig())]
    for argument in command_line:
        name = argument.partition("=")[0].removeprefix("--config.")
        if argument.startswith("--config.") and name not in known:
            return (
                f"unknown field {name!r}{did_you_mean(name, known, most=3)} (`effnetv2 config CONFIG` lists all fields)"
            )
    return str(error.args[0])


def _wrong_value(config: TrainConfig, message: str) -> str:
    """Returns an error message about an override, with the type of its field if the parser has refused its value."""
    refused = re.match(r"flag --config\.([\w.]+)=(.*?): ", message)
    types = {field.name: field.type for field in config_fields(config)}
    if not refused or refused[1] not in types:
        return message
    return f"{refused[1]} must be {types[refused[1]]}, got {refused[2]!r}"


def _one_line(error: BaseException) -> str:
    """Returns the first line of an error's message; "" if it has none."""
    try:
        return next(iter(str(error).strip().splitlines()), "")
    except Exception:  # the class of the exception may be the user's own
        return ""
