"""`--distributed`, `--coordinator`, `--processes` and `--process-index`, for commands that run on several hosts."""

from __future__ import annotations

import argparse

from effnetv2_jax.cli.options.config_file import UsageError
from effnetv2_jax.cli.options.numbers import whole


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments by which the processes of a command find each other."""
    group = parser.add_argument_group(
        "several hosts", "Run the same command on each host, with a folder for the run that all of them can reach."
    )
    group.add_argument(
        "--distributed",
        choices=("auto", "none"),
        default="auto",
        help="auto (the default): find the other processes on Cloud TPU, GKE, Slurm and Open MPI; none: run alone",
    )
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="on other systems: free port of process 0's host (default: as --distributed says)",
    )
    group.add_argument(
        "--processes", type=whole(1), metavar="N", help="with --coordinator: the number of processes (default: none)"
    )
    group.add_argument(
        "--process-index",
        type=whole(0),
        metavar="I",
        help="with --coordinator: this process, from 0 to N - 1 (default: none)",
    )


def join_processes(arguments: argparse.Namespace) -> None:
    """Joins the other processes, if there are any, and returns when all have joined.

    Raises:
      UsageError: for arguments that are incomplete, malformed or contradictory.
    """
    from effnetv2_jax.train.run.processes import Membership, join

    given = (arguments.coordinator, arguments.processes, arguments.process_index)
    if given == (None, None, None):
        if arguments.distributed == "auto":
            join()
        return
    if None in given:
        raise UsageError("--coordinator, --processes and --process-index go together")
    coordinator, processes, index = given
    if arguments.distributed == "none":
        raise UsageError("--distributed none and --coordinator exclude each other")
    if not coordinator.rpartition(":")[0] or not coordinator.rpartition(":")[2].isdigit():
        raise UsageError(f"--coordinator must be HOST:PORT, got {coordinator!r}")
    if not 0 <= index < processes:
        raise UsageError(f"--process-index must be in 0..{processes - 1}, got {index}")
    join(Membership(coordinator, processes, index))
