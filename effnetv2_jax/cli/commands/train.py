"""`effnetv2 train`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from effnetv2_jax.cli.initial_weights import initial_variables
from effnetv2_jax.cli.options.config_file import add_config_argument, load_config
from effnetv2_jax.cli.options.processes import add_process_arguments, join_processes
from effnetv2_jax.cli.teacher import load_teacher
from effnetv2_jax.train.early_check import check_early

if TYPE_CHECKING:
    from effnetv2_jax.train.config import TrainConfig
    from effnetv2_jax.train.trainer import InitialVariables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_config_argument(parser)
    parser.add_argument("--workdir", required=True, help="run folder, a path or gs://…; a run that it holds is resumed")
    parser.add_argument(
        "--profile",
        default="",
        metavar="START:STOP",
        help="write a trace of these steps into WORKDIR/profile (default: no trace)",
    )
    parser.add_argument(
        "--accept-changes",
        default="",
        metavar="FIELD,FIELD",
        help="fields of the config that may differ from those of the run in WORKDIR, such as "
        "optimizer.schedule.base_rate; the run goes on from its latest checkpoint with the new values (default: none)",
    )
    add_process_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Trains, and prints the results and the paths of the files."""
    config = load_config(arguments)
    variables = initial_variables(config)
    join_processes(arguments)
    from effnetv2_jax.train.run.preemption import EXIT_CODE, Stopped, kept_for_run
    from effnetv2_jax.train.run.processes import is_first

    try:
        with kept_for_run():
            summary = _train(arguments, config, variables)
    except Stopped as stopped:
        if is_first():
            print(f"effnetv2 train: {stopped}; the same command resumes from there", file=sys.stderr)
        return EXIT_CODE
    if not is_first():
        return 0
    suffix = "_averaged" if summary["reported_weights"] == "averaged" else ""
    print(
        f"top-1 {summary['top1' + suffix]:.2f} % and top-5 {summary['top5' + suffix]:.2f} % of "
        f"{summary['evaluated_images']:,} evaluation images ({summary['reported_weights']} weights), "
        f"{summary['steps']:,} steps, {summary['wall_seconds']:.0f} s"
    )
    print(
        f"curves {arguments.workdir}/curves.png, images {arguments.workdir}/stage_*.png, "
        f"weights {arguments.workdir}/checkpoints"
    )
    return 0


def _train(arguments: argparse.Namespace, config: TrainConfig, variables: InitialVariables | None) -> dict[str, Any]:
    check_early(config)  # before TensorFlow is imported, which takes seconds
    from effnetv2_jax.train.run.bucket import require_bucket
    from effnetv2_jax.train.trainer import train

    for path in (arguments.workdir, config.compilation_cache):
        require_bucket(path)
    return train(
        config,
        arguments.workdir,
        variables,
        arguments.profile,
        teacher=load_teacher(config),
        accepted_changes=list(filter(None, arguments.accept_changes.split(","))),
        own_process=True,
    )
