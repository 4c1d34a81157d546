"""The console command `effnetv2`."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from effnetv2_jax.cli.config_file import UsageError

# Command → what it does. Each is a module here with `add_arguments(parser)` and `run(arguments) -> exit code`.
COMMANDS = {
    "train": "train a model, or go on with what lies in the run's folder",
    "evaluate": "count the right answers over an evaluation split",
    "predict": "classify pictures",
    "convert": "convert weights between Flax, official TensorFlow and PyTorch, and verify them",
    "plan": "tell what a run will cost, on a TPU that need not be there",
    "bench": "time the input pipeline and the training step on this machine",
    "data": "check a data set, or draw what a network sees of it",
    "info": "list the variants, or the rows of one",
}

FAILED, USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0 done · 1 failed, with one line · 2 wrong usage · 75 stopped by a signal after saving: start again.
    """
    arguments_given = list(sys.argv[1:] if argv is None else argv)
    _silence_libraries()
    parser = _parser(arguments_given)
    arguments, overrides = parser.parse_known_args(arguments_given)
    arguments.overrides = overrides
    try:
        if overrides and not arguments.takes_overrides:
            raise UsageError(f"unknown arguments: {' '.join(overrides)}")
        return int(arguments.run(arguments))
    except UsageError as error:
        return _fail(arguments, error, USAGE)
    except _errors_to_tell() as error:
        return _fail(arguments, error, FAILED)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="effnetv2", description="EfficientNetV2 in JAX/Flax, TPU first.")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(takes_overrides=False)
        if name in argv:  # only the command asked for is imported: TensorFlow takes seconds
            module = importlib.import_module(f"effnetv2_jax.cli.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _silence_libraries() -> None:
    """Keeps other packages' start-up and deprecation lines, which help nobody here, out of the output; ours show."""
    # Read when TensorFlow is imported. oneDNN, which reports at length, is for convolutions and matrix products.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    for name in ("absl", "tensorflow", "orbax"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("effnetv2_jax").setLevel(logging.INFO)


def _errors_to_tell() -> tuple[type[Exception], ...]:
    """Returns the errors that have one line; TensorFlow's, as of a bucket that is not there, only once it is loaded."""
    tensorflow = sys.modules.get("tensorflow")
    loaded = (tensorflow.errors.OpError,) if tensorflow else ()
    return (ValueError, OSError, RuntimeError, ArithmeticError, ImportError, *loaded)


def _fail(arguments: argparse.Namespace, error: Exception, code: int) -> int:
    if arguments.debug:
        raise error
    print(f"effnetv2 {arguments.command}: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
