"""`effnetv2 search run` and `report`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from effnetv2_jax.cli.options.config_file import UsageError, add_config_argument, load_config
from effnetv2_jax.cli.options.numbers import from_zero_to, whole

if TYPE_CHECKING:
    from effnetv2_jax.search.folder import SearchFolder
    from effnetv2_jax.search.settings import SearchSettings

_ACTIONS = {
    "run": "search, or go on with the search in DIR; several processes may do so at the same time",
    "report": "print what was found so far, and write tables, pictures and specs into DIR/report",
}
_METHODS = ("random", "evolution", "nsga2")
_NUMBERS = ("method", "samples", "seed", "population", "at_once", "stop_below", "stop_after", "topology")
_SETTINGS = (*_NUMBERS, "base", "references")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "action", choices=_ACTIONS, help="; ".join(f"{name}: {text}" for name, text in _ACTIONS.items())
    )
    parser.add_argument("folder", metavar="DIR", help="the folder of the search, on a disk that all processes share")
    add_config_argument(parser, default="the config of the search in DIR", required=False)
    parser.add_argument(
        "--method",
        choices=_METHODS,
        help="random; regularised evolution; or NSGA-II, which looks for the whole front (default: evolution)",
    )
    parser.add_argument("--samples", type=whole(1), metavar="N", help="number of candidates (default: 100)")
    parser.add_argument("--seed", type=whole(0), metavar="N", help="seed of the search (default: 0)")
    parser.add_argument(
        "--population", type=whole(2), metavar="N", help="candidates that the next are made from (default: 16)"
    )
    parser.add_argument(
        "--at-once",
        type=whole(1),
        metavar="N",
        help="candidates that may be trained at the same time, by as many processes (default: 1)",
    )
    parser.add_argument(
        "--stop-below",
        type=from_zero_to(100),
        metavar="P",
        help="stop a candidate whose reward is below this percentile of those at the same step; 0 for never "
        "(default: 25)",
    )
    parser.add_argument(
        "--stop-after",
        type=from_zero_to(1),
        metavar="S",
        help="share of a run, from 0 to 1, before which no candidate is stopped (default: 0.5)",
    )
    parser.add_argument(
        "--topology",
        metavar="TPU",
        help="estimate steps for this TPU slice, such as v5e-1 (default: time them on the devices of this machine)",
    )
    parser.add_argument(
        "--base",
        metavar="V",
        help="variant or file with a spec whose channels and strides all candidates have, scaled by the config's width "
        "and depth (default: efficientnet-b0)",
    )
    parser.add_argument(
        "--references",
        nargs="*",
        metavar="V",
        help="variants or files with specs to compare with, scaled like the base (default: efficientnet-b0, "
        "efficientnetv2-b0, efficientnetv2-s)",
    )
    parser.add_argument("--json", action="store_true", help="with report: print JSON (default: a table)")
    parser.add_argument(
        "--whole-programs",
        action="store_true",
        help="with report, for a search with --topology: compile the best network and those to compare with as whole "
        "programs, and print how far the sums of rows are from them (default: no)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Searches, or prints and writes a report."""
    from effnetv2_jax.search.folder import SearchFolder

    folder = SearchFolder(arguments.folder)
    if arguments.action == "report":
        given = [name for name in ("config", *_SETTINGS) if getattr(arguments, name) is not None]
        if given or arguments.overrides:
            raise UsageError("report takes no option but --json and --whole-programs")
        return _report(arguments, folder)
    if arguments.json or arguments.whole_programs:
        raise UsageError("--json and --whole-programs go with report")
    if arguments.config:
        settings = folder.begin(_settings(arguments))
    elif not folder.exists:
        raise UsageError(f"a new search needs --config, and {folder.path} contains none")
    elif any(getattr(arguments, name) is not None for name in _SETTINGS) or arguments.overrides:
        raise UsageError("without --config, the search in DIR goes on with its own settings")
    else:
        settings = folder.settings()
    from effnetv2_jax.search.worker import search
    from effnetv2_jax.train.run.preemption import EXIT_CODE, Stopped

    try:
        search(folder, settings, lambda text: print(text, file=sys.stderr, flush=True), own_process=True)
    except (Stopped, KeyboardInterrupt):
        print("effnetv2 search: stopped; the same command goes on from there", file=sys.stderr)
        return EXIT_CODE
    return _report(arguments, folder)


def _settings(arguments: argparse.Namespace) -> SearchSettings:
    """Returns the settings that the options ask for.

    Raises:
      UsageError: if one is out of range, or a network or a TPU is unknown.
    """
    from effnetv2_jax.analysis.topology import parse_topology
    from effnetv2_jax.model.spec_file import spec_text
    from effnetv2_jax.model.variants import get_spec
    from effnetv2_jax.search.settings import REFERENCES, SearchSettings, check_settings
    from effnetv2_jax.train.config import flatten

    config = load_config(arguments)
    width, depth = config.model.width, config.model.depth

    def scaled(name: str) -> str:
        return spec_text(get_spec(name).scaled(width, depth))

    names = REFERENCES if arguments.references is None else arguments.references
    given: dict[str, Any] = {
        name: getattr(arguments, name) for name in _NUMBERS if getattr(arguments, name) is not None
    }
    try:
        settings = SearchSettings(
            config=flatten(config),
            base=scaled(arguments.base or "efficientnet-b0"),
            references=tuple(scaled(name) for name in names),
            **given,
        )
        check_settings(settings)
        if settings.topology:
            parse_topology(settings.topology)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return settings


def _report(arguments: argparse.Namespace, folder: SearchFolder) -> int:
    from effnetv2_jax.search.report import write_report

    if arguments.whole_programs and not folder.settings().topology:
        raise UsageError("--whole-programs: the steps of this search were timed as whole programs, not summed")
    report = write_report(folder)
    if arguments.json:
        print(json.dumps(report.rows, indent=1, ensure_ascii=False))
    else:
        from effnetv2_jax.cli.tables.search import print_report

        print_report(report)
    print(f"written: {', '.join(map(str, report.files))}", file=sys.stderr)
    if arguments.whole_programs:
        _compare(folder, report.settings)
    if report.best:
        print(f"use the best with --config.model.variant={report.best}", file=sys.stderr)
    return 0


def _compare(folder: SearchFolder, settings: SearchSettings) -> None:
    """Prints the ratio of the sum of rows and the whole program, for the best network and those to compare with."""
    from effnetv2_jax.search.front import best
    from effnetv2_jax.search.prices import compare_with_whole_programs

    winner = best(folder.results())
    for each in [*([winner] if winner else []), *folder.references()]:
        (ratio,) = compare_with_whole_programs(settings, [each])
        print(
            f"{each.network().name}: the sum of rows is {ratio:.3f} of the whole program's estimate",
            file=sys.stderr,
            flush=True,
        )
