"""The console command `effnetv2`."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import select
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from effnetv2_jax.bucket_limits import set_limits
from effnetv2_jax.cli.missing_extra import missing_extra
from effnetv2_jax.cli.options.config_file import UsageError
from effnetv2_jax.cli.options.config_listing import Help
from effnetv2_jax.cli.terminal.printable_line import printable_line
from effnetv2_jax.cli.terminal.quiet_libraries import silence_libraries
from effnetv2_jax.similar_names import did_you_mean
from effnetv2_jax.version import __version__

# Command → what it does. Each command is a module in `commands/` with two functions: `add_arguments(parser)`, and
# `run(arguments)`, which returns the exit code.
COMMANDS = {
    "train": "train a model, or resume the run in a folder",
    "evaluate": "measure the accuracy on the evaluation split",
    "checkpoint": "list a run's checkpoints, verify them, or print a digest to compare runs by",
    "compare": "compare two sets of weights on the same images",
    "predict": "classify pictures",
    "convert": "convert weights between Flax, official TensorFlow and PyTorch, and verify them",
    "export": "write a program for another runtime: StableHLO, SavedModel, TensorFlow Lite or ONNX; and verify it",
    "plan": "estimate what a run will cost, also on a TPU that you do not have",
    "tune": "find the fastest programs for a TPU that you do not have, with its compiler",
    "scale": "make larger networks of one by the paper's rule, within a budget",
    "search": "look for networks that train fast and well, on this machine or for a TPU that you do not have",
    "ablate": "measure the tables of the paper again, with your config and several seeds",
    "bench": "time the input pipeline, the training step or pretrained networks on this machine",
    "config": "list every field of a config with its value, type and meaning",
    "data": "check a data set, or draw the images that a network is trained on",
    "info": "list the variants, the blocks of one, or the published weights",
}

FAILED, USAGE = 1, 2

_STDOUT = 1  # file descriptor of the standard output


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    The exit codes are 0 (success), 1 (failed, also if the reader of the output ended, as `head` does), 2 (wrong usage)
    and 75 (stopped by a signal after saving: the same command resumes the run). An error is printed as one line.
    """
    silence_libraries()
    set_limits()
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_ended():
            raise
        return FAILED


def script() -> NoReturn:
    """Runs the command of this process and ends it.

    If the command failed or was stopped, nothing waits for programs that are still being compiled in threads, which
    takes minutes. The processes of a run wait for each other, because JAX aborts those that outlive the first one.
    """
    code = main()
    if code:
        jax = sys.modules.get("jax")
        if jax and jax.distributed.is_initialized():
            jax.distributed.shutdown()
        sys.stderr.flush()
        os._exit(code)
    sys.exit()


def _run(argv: Sequence[str]) -> int:
    parser = _parser(argv)
    command = next((word for word in argv if not word.startswith("-")), None)
    if command not in COMMANDS and not {"-h", "--help", "--version"}.intersection(argv):
        if command is not None:
            parser.error(
                f"unknown command {command!r}{did_you_mean(command, COMMANDS)} (commands: {', '.join(COMMANDS)})"
            )
        parser.print_help(sys.stderr)
        return USAGE
    arguments, overrides = parser.parse_known_args(argv)
    arguments.overrides = overrides
    try:
        _check_overrides(arguments)
        return int(arguments.run(arguments))
    except UsageError as error:
        return _fail(arguments, error, USAGE)
    except BrokenPipeError:
        raise
    except _reported_errors() as error:
        return _fail(arguments, error, FAILED)


def _check_overrides(arguments: argparse.Namespace) -> None:
    """Checks that what the command's parser does not know are overrides of a config, if the command takes them.

    Raises:
      UsageError: if they are not; the message proposes an option of the command.
    """
    options = [word for word in arguments.overrides if word.startswith("-") and not word.startswith("--config.")]
    if options or (arguments.overrides and not arguments.takes_overrides):
        word = re.split("[=.]", options[0], maxsplit=1)[0] if options else ""
        unknown = " ".join(options or arguments.overrides)
        raise UsageError(f"unknown arguments: {unknown}{did_you_mean(word, arguments.options)}")


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="effnetv2", description="EfficientNetV2 in JAX/Flax, TPU first.")
    debug: dict[str, Any] = {"action": "store_true", "help": "show the whole traceback of an error"}
    parser.add_argument("--version", action="version", version=f"effnetv2_jax {__version__}")
    parser.add_argument("--debug", **debug)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", add_help=False)
        command.register("action", "help", Help)
        command.add_argument("-h", "--help", action="help", help="show this help message and exit")
        command.add_argument("--debug", default=argparse.SUPPRESS, **debug)  # keeps a --debug before the command
        command.set_defaults(takes_overrides=False)
        if name in argv:  # imports only this command's module: importing TensorFlow takes seconds
            module = importlib.import_module(f"effnetv2_jax.cli.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run, options=[*command._option_string_actions])
    return parser


def _reader_ended() -> bool:
    """Returns whether nobody reads the standard output any more. If so, what remains of it goes nowhere."""
    output = select.poll()
    output.register(_STDOUT, 0)
    ended = any(events & (select.POLLERR | select.POLLHUP) for _, events in output.poll(0))
    if ended:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # Python writes what remains at its end
    return ended


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
