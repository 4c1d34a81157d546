"""`effnetv2 tune`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnetv2_jax.cli.options.config_file import UsageError, add_config_argument, load_config
from effnetv2_jax.cli.options.numbers import above_zero

if TYPE_CHECKING:
    from effnetv2_jax.analysis.tuning.search import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_config_argument(parser)
    parser.add_argument("--topology", required=True, metavar="TPU", help="the TPU slice: v5e-8, v4-32, v5e:2x4, …")
    parser.add_argument(
        "--out",
        default="tuning.json",
        metavar="FILE",
        help="where to write what was found, for --config.tuning=FILE (default: %(default)s)",
    )
    parser.add_argument(
        "--budget",
        type=above_zero,
        metavar="MINUTES",
        help="start no further program after this time; the same command then goes on from there (default: no limit)",
    )
    parser.add_argument(
        "--price", type=above_zero, metavar="X", help="price of a chip for one hour (default: no prices)"
    )
    parser.add_argument(
        "--picture", default="", metavar="FILE.png", help="draw the time of each program (default: no picture)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with an object for each program (default: tables)"
    )
    parser.add_argument(
        "--cache",
        default=None,
        metavar="FOLDER",
        help="folder that stores the costs of compiled programs; '' for none (default: ~/.cache/effnetv2_jax/plans)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Searches, writes the file, and prints what it gains."""
    import jax

    from effnetv2_jax.analysis.plan import planned_experiment
    from effnetv2_jax.analysis.program_cost import CACHE
    from effnetv2_jax.analysis.topology import parse_topology
    from effnetv2_jax.analysis.tuning.tuner import tune
    from effnetv2_jax.cli.teacher import load_teacher
    from effnetv2_jax.train.tuned_programs import AUTO, NONE
    from effnetv2_jax.train.tuning import write_tuning

    jax.config.update("jax_platforms", "cpu")  # leaves this machine's accelerator alone
    jax.config.update("jax_enable_compilation_cache", False)  # it cannot store programs for an absent TPU
    config, topology = load_config(arguments), parse_topology(arguments.topology)
    if config.tuning not in (AUTO, NONE):
        raise UsageError("--config.tuning: a search starts without the results of another")
    result = tune(
        planned_experiment(config, topology.devices, teacher=load_teacher(config)),
        topology,
        60 * arguments.budget if arguments.budget else None,
        CACHE if arguments.cache is None else arguments.cache,
        lambda text: print(text, file=sys.stderr, flush=True),
    )
    rows = [_figures(result, index, arguments.price) for index in range(len(result.after.programs))]
    notes = ("cycles_before", "cycles", "hbm_bytes", "compile_seconds")
    write_tuning(arguments.out, result.tuning, {row["program"]: {note: row[note] for note in notes} for row in rows})
    if arguments.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        from effnetv2_jax.cli.tables.tuning import print_result

        print_result(result, rows, arguments.price)
    print(f"use it with --config.tuning={arguments.out}", file=sys.stderr)
    if not result.complete:
        print(
            f"the {arguments.budget:g} minutes are over; the same command goes on from the {result.tried} programs "
            "that were compiled",
            file=sys.stderr,
        )
    if arguments.picture:
        from effnetv2_jax.analysis.tuning.picture import draw_tuning

        draw_tuning(Path(arguments.picture), result)
        print(f"picture: {arguments.picture}", file=sys.stderr)
    return 0


def _figures(result: Result, index: int, price: float | None) -> dict[str, Any]:
    """Returns what was found for a program, with the hours and the money that it saves in the whole run."""
    before, after = result.before.programs[index], result.after.programs[index]
    assert before.cost is not None
    assert after.cost is not None
    assert result.after.topology is not None
    settings = result.tuning.settings[after.name]
    saved = result.before.hours_of(before) - result.after.hours_of(after)
    figures = {
        "program": after.name,
        "image_size": after.image_size,
        "microbatches_before": before.microbatches,
        "microbatches": after.microbatches,
        "remat": list(settings.remat),
        "compiler_options": dict(settings.compiler_options),
        "cycles_before": before.cost.estimated_cycles,
        "cycles": after.cost.estimated_cycles,
        "ratio": after.cost.estimated_cycles / before.cost.estimated_cycles,
        "hbm_bytes": result.after.topology.chip.devices * after.cost.hbm_bytes,
        "compile_seconds": after.cost.compile_seconds,
        "hours": result.after.hours_of(after),
        "hours_saved": saved,
    }
    return figures | ({"price_saved": price * saved * result.after.topology.chips} if price else {})
