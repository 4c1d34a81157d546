"""`effnetv2 ablate run` and `report`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from effnetv2_jax.cli.initial_weights import initial_variables
from effnetv2_jax.cli.options.config_file import UsageError, add_config_argument, load_config
from effnetv2_jax.cli.options.numbers import whole
from effnetv2_jax.cli.options.processes import add_process_arguments, join_processes
from effnetv2_jax.cli.teacher import load_teacher

if TYPE_CHECKING:
    from effnetv2_jax.ablation.folder import AblationFolder
    from effnetv2_jax.ablation.settings import AblationSettings
    from effnetv2_jax.model.specs import ModelSpec
    from effnetv2_jax.train.config import TrainConfig

_ACTIONS = {
    "run": "train the runs of the tables, or those that are left; several processes may do so at the same time",
    "report": "print the tables so far, and write figures and pictures into DIR/report",
}
_TABLES = ("networks", "progressive", "strength", "fused", "presets", "parts")
_NETWORKS = ("efficientnet-b0", "efficientnetv2-b0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "action", choices=_ACTIONS, help="; ".join(f"{name}: {text}" for name, text in _ACTIONS.items())
    )
    parser.add_argument("folder", metavar="DIR", help="the folder of the ablation, a path or gs://…")
    add_config_argument(parser, default="the config of the ablation in DIR", required=False)
    parser.add_argument(
        "--tables",
        nargs="+",
        choices=_TABLES,
        help="networks: some networks with the same training; progressive: growing images and regularisation against "
        "constant ones; strength: image size by RandAugment's magnitude; fused: Fused-MBConv in none, some and all "
        "rows; presets: the stages of the official code and of the paper; parts: the recipe without each of its parts "
        "(default: all)",
    )
    parser.add_argument("--seeds", type=whole(1), metavar="N", help="runs for each row (default: 3)")
    parser.add_argument(
        "--base",
        metavar="V",
        help="variant or file with a spec whose rows the table `fused` replaces, scaled by the config's width and "
        "depth (default: efficientnet-b0)",
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        metavar="V",
        help="variants, scaled by the config's width and depth, and files with specs, taken as they are, for the table "
        f"`networks`; the others are compared with the first one (default: {', '.join(_NETWORKS)})",
    )
    parser.add_argument(
        "--topology",
        metavar="TPU",
        help="with report: add what steps take on this TPU slice, such as v5e-1, by the TPU compiler (default: no)",
    )
    parser.add_argument("--json", action="store_true", help="with report: print JSON (default: tables)")
    add_process_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Trains the runs, or prints and writes a report."""
    if arguments.action == "report":
        if any(getattr(arguments, name) is not None for name in ("config", "tables", "seeds", "base", "networks")):
            raise UsageError("report takes no option but --json and --topology")
        return _report(arguments)
    if arguments.json or arguments.topology:
        raise UsageError("--json and --topology go with report")
    from effnetv2_jax.ablation.folder import AblationFolder
    from effnetv2_jax.train.run.bucket import require_bucket

    require_bucket(arguments.folder)
    folder = AblationFolder(arguments.folder)
    asked = _asked(arguments, folder)
    join_processes(arguments)
    from effnetv2_jax.train.run.preemption import EXIT_CODE, Stopped, kept_for_run
    from effnetv2_jax.train.run.processes import is_first

    try:
        with kept_for_run():
            _train(folder, asked)
    except (Stopped, KeyboardInterrupt):
        if is_first():
            print("effnetv2 ablate: stopped; the same command goes on from there", file=sys.stderr)
        return EXIT_CODE
    return _report(arguments) if is_first() else 0


def _asked(arguments: argparse.Namespace, folder: AblationFolder) -> AblationSettings:
    """Returns the settings that the options ask for, or those in the folder with more tables or seeds.

    Raises:
      UsageError: if one is out of range, or the folder holds no ablation and there is no config.
    """
    import dataclasses

    from effnetv2_jax.ablation.settings import AblationSettings, check_settings
    from effnetv2_jax.model.spec_file import spec_text
    from effnetv2_jax.model.variants import VARIANTS, get_spec
    from effnetv2_jax.train.config import flatten

    grown: dict[str, Any] = {"tables": tuple(arguments.tables)} if arguments.tables else {}
    grown |= {"seeds": arguments.seeds} if arguments.seeds else {}
    if not arguments.config:
        if not folder.exists:
            raise UsageError(f"a new ablation needs --config, and {folder.path} contains none")
        if arguments.overrides or arguments.base or arguments.networks:
            raise UsageError("without --config, the ablation in DIR goes on with its own settings")
        return dataclasses.replace(folder.settings(), **grown)
    config = load_config(arguments)

    def scaled(name: str) -> ModelSpec:
        return get_spec(name).scaled(config.model.width, config.model.depth)

    try:
        base = scaled(arguments.base or "efficientnet-b0")
        networks = [scaled(name) if name in VARIANTS else get_spec(name) for name in arguments.networks or _NETWORKS]
        settings = AblationSettings(flatten(config), spec_text(base), tuple(map(spec_text, networks)), **grown)
        check_settings(settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return settings


def _train(folder: AblationFolder, asked: AblationSettings) -> None:
    import jax

    from effnetv2_jax.ablation.runs import runs_of
    from effnetv2_jax.ablation.worker import train_runs
    from effnetv2_jax.train.run.processes import first_before_others, is_first
    from effnetv2_jax.train.trainer import train

    # Before the folder exists, since the config may be wrong.
    outline = first_before_others(lambda: asked.outline(jax.device_count()))
    runs_of(asked, outline, asked.tables_of(outline))
    settings = folder.begin(asked)
    runs = runs_of(settings, outline, settings.tables_of(outline))

    def one(config: TrainConfig, workdir: str) -> None:
        train(config, workdir, initial_variables(config), teacher=load_teacher(config), own_process=True)

    def report(text: str) -> None:
        if is_first():
            print(text, file=sys.stderr, flush=True)

    train_runs(folder, runs, one, report)


def _report(arguments: argparse.Namespace) -> int:
    import jax

    from effnetv2_jax.ablation.estimate import StepEstimate
    from effnetv2_jax.ablation.figures import results, row_figures
    from effnetv2_jax.ablation.folder import AblationFolder
    from effnetv2_jax.ablation.outcome import is_finished
    from effnetv2_jax.ablation.report import write_report
    from effnetv2_jax.ablation.runs import runs_of
    from effnetv2_jax.analysis.topology import parse_topology

    folder = AblationFolder(arguments.folder)
    settings, topology, estimate = folder.settings(), arguments.topology or "", None
    if topology:
        jax.config.update("jax_platforms", "cpu")  # leaves this machine's accelerator alone
        jax.config.update("jax_enable_compilation_cache", False)  # it cannot store programs for an absent TPU
        estimate = StepEstimate(parse_topology(topology), lambda text: print(text, file=sys.stderr, flush=True))
    outline = settings.outline(jax.device_count())
    tables = settings.tables_of(outline)
    runs = runs_of(settings, outline, tables)
    found = results(folder, settings, tables, outline, estimate)
    files = write_report(folder, settings, found, topology)
    if arguments.json:
        print(json.dumps({each.name: row_figures(each) for each in found}, indent=1, ensure_ascii=False))
    else:
        from effnetv2_jax.cli.tables.ablation import print_tables

        print_tables(found, sum(is_finished(folder.run(run.folder)) for run in runs), len(runs), topology)
    print(f"written: {', '.join(map(str, files))}", file=sys.stderr)
    return 0
