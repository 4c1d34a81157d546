"""The console command `effnetv2`."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from effnetv2_jax.bucket_limits import set_limits
from effnetv2_jax.cli.config_file import UsageError
from effnetv2_jax.cli.missing_extra import missing_extra
from effnetv2_jax.cli.printable_line import printable_line
from effnetv2_jax.version import __version__

# Command → what it does. Each command is a module in `commands/` with two functions: `add_arguments(parser)`, and
# `run(arguments)`, which returns the exit code.
COMMANDS = {
    "train": "train a model, or resume the run in a folder",
    "evaluate": "measure the accuracy on the evaluation split",
    "checkpoint": "list a run's checkpoints, verify them, or print a digest to compare runs by",
    "predict": "classify pictures",
    "convert": "convert weights between Flax, official TensorFlow and PyTorch, and verify them",
    "plan": "estimate what a run will cost, also on a TPU that you do not have",
    "bench": "time the input pipeline and the training step on this machine",
    "config": "list every field of a config with its value, type and meaning",
    "data": "check a data set, or draw the images that a network is trained on",
    "info": "list the variants, or the blocks of one",
}

FAILED, USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    The exit codes are 0 (success), 1 (failed), 2 (wrong usage) and 75 (stopped by a signal after saving: the same
    command resumes the run). An error is printed as one line.
    """
    arguments_given = list(sys.argv[1:] if argv is None else argv)
    _silence_libraries()
    set_limits()
    parser = _parser(arguments_given)
    arguments, overrides = parser.parse_known_args(arguments_given)
    arguments.overrides = overrides
    try:
        if overrides and not arguments.takes_overrides:
            raise UsageError(f"unknown arguments: {' '.join(overrides)}")
        return int(arguments.run(arguments))
    except UsageError as error:
        return _fail(arguments, error, USAGE)
    except _reported_errors() as error:
        return _fail(arguments, error, FAILED)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="effnetv2", description="EfficientNetV2 in JAX/Flax, TPU first.")
    debug: dict[str, Any] = {"action": "store_true", "help": "show the whole traceback of an error"}
    parser.add_argument("--version", action="version", version=f"effnetv2_jax {__version__}")
    parser.add_argument("--debug", **debug)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument("--debug", default=argparse.SUPPRESS, **debug)  # keeps a --debug before the command
        command.set_defaults(takes_overrides=False)
        if name in argv:  # imports only this command's module: importing TensorFlow takes seconds
            module = importlib.import_module(f"effnetv2_jax.cli.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _silence_libraries() -> None:
    """Shows the project's own log lines, and hides start-up messages and deprecation warnings of other packages."""
    # TensorFlow reads these variables when it is imported. oneDNN prints several lines at start-up, and it speeds up
    # only convolutions and matrix products, which the input pipeline does not use.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    for name in ("absl", "orbax"):  # Orbax logs the traceback of an error through absl, and then raises the error
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("effnetv2_jax").setLevel(logging.INFO)
    sys.unraisablehook = _show_unraisable


def _show_unraisable(unraisable: Any) -> None:
    """Shows an error that Python cannot raise, except that of Orbax's event loop after a save that has failed.

    The error of the save itself is raised.
    """
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _reported_errors() -> tuple[type[Exception], ...]:
    """Returns the exceptions that are reported in one line. Others are bugs and keep their traceback.

    TensorFlow's own exceptions, such as that of a missing bucket, are among them once TensorFlow has been imported.
    """
    tensorflow = sys.modules.get("tensorflow")
    tensorflow_errors = (tensorflow.errors.OpError,) if tensorflow else ()
    return (ValueError, OSError, RuntimeError, ArithmeticError, ImportError, *tensorflow_errors)


def _fail(arguments: argparse.Namespace, error: Exception, code: int) -> int:
    if arguments.debug:
        raise error
    message = missing_extra(error, arguments.command) or printable_line(str(error))
    print(f"effnetv2 {arguments.command}: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
