"""`--config FILE[:ARGUMENT] --config.FIELD=VALUE`: the config of a run from the command line."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

import effnetv2_jax


class UsageError(ValueError):
    """The command line is wrong; exit code 2."""


def add_config_argument(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declares `--config`, whose overrides argparse leaves over for `load_config`."""
    parser.add_argument(
        "--config", required=required, metavar="FILE[:ARGUMENT]", help="a file of configs/, as in configs/digits.py"
    )
    parser.set_defaults(takes_overrides=True)
    parser.epilog = "--config.FIELD=VALUE overrides a field of the config, as in --config.optimizer.clip_norm=1.0"


def load_config(arguments: argparse.Namespace) -> Any:
    """Returns the `TrainConfig` that a config file's `get_config` makes, with the overrides applied.

    Raises:
      UsageError: for a file that is not there, an unknown field, or a value of the wrong type.
    """
    from ml_collections import config_flags

    path, colon, argument = arguments.config.partition(":")
    values = flags.FlagValues()
    command_line = ["effnetv2", f"--config={_found(path)}{colon}{argument}", *arguments.overrides]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=command_line)
    try:
        rest = values(command_line, known_only=True)[1:]
        config = values.config
        if not dataclasses.is_dataclass(config):
            raise UsageError(f"{path}: get_config must return a TrainConfig")
    except KeyError as error:
        raise UsageError(f"{error.args[0]}; see the fields of TrainConfig in effnetv2_jax/train/config.py") from error
    except (flags.Error, TypeError, AttributeError) as error:
        raise UsageError(_reason(error)) from error
    if rest:
        raise UsageError(f"unknown arguments: {' '.join(rest)}")
    return config


def _reason(error: Exception) -> str:
    """Returns one line: where a config file itself fails, absl's message ends with the file's own error."""
    lines = str(error).strip().splitlines()
    return lines[-1].partition(": ")[2] if "Traceback (most recent call last):" in lines else lines[0]


def _found(path: str) -> Path:
    """Returns a config file: relative to the working folder, or one of the project's own."""
    package = Path(effnetv2_jax.__file__).parent
    candidates: Sequence[Path] = [Path(path), package.parent / path, package / path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    own = sorted(file.name for folder in (package.parent, package) for file in (folder / "configs").glob("*.py"))
    raise UsageError(f"no config file {path}; the project's own: {', '.join(f'configs/{name}' for name in own)}")
