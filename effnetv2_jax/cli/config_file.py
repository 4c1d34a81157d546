"""`--config FILE[:ARGUMENT] --config.FIELD=VALUE`: the configuration of a run on the command line."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags


class UsageError(ValueError):
    """The command line is wrong. The exit code is 2."""


def add_config_argument(parser: argparse.ArgumentParser, *, default: str = "", required: bool = True) -> None:
    """Declares `--config`. The overrides of its fields are parsed later, by `load_config`.

    Args:
      parser: the command's parser.
      default: what the command uses without the argument, for the help text.
      required: whether the command needs it.
    """
    parser.add_argument(
        "--config",
        required=required,
        metavar="FILE[:ARGUMENT]",
        help="config file, with the argument that it takes: configs/digits.py, configs/imagenet1k.py:efficientnetv2-s"
        + (f" (default: {default})" if default else ""),
    )
    parser.set_defaults(takes_overrides=True)
    parser.epilog = "--config.FIELD=VALUE replaces a field of the config, as in --config.optimizer.clip_norm=1.0"


def load_config(arguments: argparse.Namespace) -> Any:
    """Returns the `TrainConfig` that `get_config` of a config file returns, with the overrides applied.

    Raises:
      UsageError: for a missing file, an unknown field, or a value of the wrong type.
    """
    from ml_collections import config_flags

    path, colon, argument = arguments.config.partition(":")
    command_line = ["effnetv2", f"--config={_config_path(path)}{colon}{argument}", *arguments.overrides]
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
    """Returns the config of a command line, whose flag `config` the function `define` defines."""
    values = flags.FlagValues()
    try:
        define(flag_values=values, sys_argv=command_line)
        rest = values(command_line, known_only=True)[1:]
        config = values.config
    except KeyError as error:
        raise UsageError(f"{error.args[0]}; see the fields of TrainConfig in effnetv2_jax/train/config.py") from error
    except (flags.Error, TypeError, AttributeError) as error:
        raise UsageError(_reason(error)) from error
    if rest:
        raise UsageError(f"unknown arguments: {' '.join(rest)}")
    return config


def _reason(error: Exception) -> str:
    """Returns one line of an error's message. If the config file itself failed, that is the end of its traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1].partition(": ")[2] if "Traceback (most recent call last):" in lines else lines[0]


def _config_path(path: str) -> Path:
    """Returns the path of a config file, relative to the current folder or to the project."""
    package = Path(__file__).parent.parent
    candidates: Sequence[Path] = [Path(path), package.parent / path, package / path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    own = sorted(file.name for folder in (package.parent, package) for file in (folder / "configs").glob("*.py"))
    raise UsageError(f"config file {path} not found; the project's own: {', '.join(f'configs/{name}' for name in own)}")
