"""`effnetv2 data check`, `effnetv2 data preview` and `effnetv2 data convert`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import rich.box
import rich.console
import rich.progress
import rich.table

from effnetv2_jax.cli.options.config_file import UsageError, add_config_argument, load_config
from effnetv2_jax.train.report.console import make_console

if TYPE_CHECKING:
    from effnetv2_jax.data.check import DataReport, SplitReport

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "action",
        choices=("check", "preview", "convert"),
        help="check: decode every image once and report what is wrong; preview: draw each stage's training images; "
        "convert: write the data set as shards of even size, for data.dataset=converted; a conversion that was stopped "
        "goes on with the same command",
    )
    add_config_argument(parser)
    parser.add_argument(
        "--out", default="", help="folder for the pictures of preview (default: preview), or for the shards of convert"
    )
    parser.add_argument("--format", default="tfrecord", help="tfrecord (default) or array_record, for convert")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--shard-mb", type=float, default=200.0, help="size of a shard in 10^6 bytes (default: 200)")
    size.add_argument(
        "--shards", type=int, help="number of training shards, in place of their size (default: as their size gives)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Checks the data set of the config, draws its training images, or writes it as shards."""
    return {"check": _check, "preview": _preview, "convert": _convert}[arguments.action](arguments)


def _check(arguments: argparse.Namespace) -> int:
    """Prints the sizes, classes, broken images and duplicates of a data set. Returns 1 if something is wrong."""
    config = load_config(arguments).data
    from effnetv2_jax.data.check import check_dataset
    from effnetv2_jax.data.dataset import dataset_info

    dataset_info(config)  # refuses a bad config or folder before the images are decoded
    console = make_console()
    with rich.progress.Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"decoding {config.dataset}", total=None)
        report = check_dataset(config, lambda done, total: progress.update(task, completed=done, total=total))
    console.print(_splits_table(report))
    empty = [name for name, count in zip(report.class_names, report.train.class_counts, strict=True) if not count]
    _list(console, "classes without a training image", dict.fromkeys(empty, ""))
    _list(console, "broken training images", report.train.broken)
    _list(console, "broken evaluation images", report.evaluation.broken)
    _list(console, "evaluation images that are also training images", {name: twin for twin, name in report.shared})
    console.print(_verdict(report, len(empty), config.max_broken), markup=False)
    return 0 if report.sound else 1


def _verdict(report: DataReport, empty_classes: int, max_broken: float) -> str:
    """Returns a sentence that says whether the data set is sound, with the numbers that decide it."""
    from effnetv2_jax.data.broken import training_limit

    train, evaluation = report.train, report.evaluation
    if report.sound:
        return (
            f"The data set is sound: {train.examples:,} training and {evaluation.examples:,} evaluation images in "
            f"{len(report.class_names):,} classes, none of them broken and none in both splits."
        )
    counted = {
        f"of {train.examples:,} training images, {{}} cannot be used "
        f"({training_limit(max_broken, train.examples)})": len(train.broken),
        f"of {evaluation.examples:,} evaluation images, {{}} cannot be used (evaluation allows none)": (
            len(evaluation.broken)
        ),
        f"of {evaluation.examples:,} evaluation images, {{}} can be found among the training images": (
            len(report.shared)
        ),
        f"of {len(report.class_names):,} classes, {{}} cannot be learnt for lack of a training image": empty_classes,
    }
    faults = "; ".join(text.format(f"{count:,}") for text, count in counted.items() if count)
    return f"The data set is not sound: {faults}."


def _splits_table(report: DataReport) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ("", "training", "evaluation"):
        table.add_column(name, justify="right" if name else "left")
    for row in zip(*(_figures(split).items() for split in (report.train, report.evaluation)), strict=True):
        table.add_row(row[0][0], *(value for _, value in row))
    return table


def _figures(split: SplitReport) -> dict[str, str]:
    counts = split.class_counts
    return {
        "images": f"{split.examples:,}",
        "classes with images": f"{sum(count > 0 for count in counts):,}",
        "images per class": f"{min(counts, default=0):,}–{max(counts, default=0):,}",
        "smallest image, px": "×".join(map(str, split.smallest)),
        "largest image, px": "×".join(map(str, split.largest)),
        "mean size, bytes": f"{split.mean_bytes:,.0f}",
        "broken": f"{len(split.broken):,}",
        "duplicates in the split": f"{split.duplicates:,}",
    }


def _list(console: rich.console.Console, title: str, rows: Mapping[str, str]) -> None:
    if rows:
        console.print(f"{title}: {len(rows):,}")
    for name, reason in list(rows.items())[:_SHOWN]:
        console.print(f"  {name}: {reason}" if reason else f"  {name}", markup=False)
    if len(rows) > _SHOWN:
        console.print(f"  … and {len(rows) - _SHOWN:,} more")


def _preview(arguments: argparse.Namespace) -> int:
    """Draws a grid of training images for each stage, and each operation of RandAugment at each stage's magnitude."""
    config = load_config(arguments)
    import jax

    from effnetv2_jax.train.derivation import make_experiment
    from effnetv2_jax.train.report.preview import draw_operations, draw_stage

    experiment = make_experiment(config, jax.device_count())
    folder = Path(arguments.out or "preview")
    folder.mkdir(parents=True, exist_ok=True)
    data = experiment.config.data
    for stage in experiment.stages:
        print(draw_stage(experiment.description(), data, stage, folder))
    if data.augmentation == "randaugment":
        print(draw_operations(data, experiment.stages, folder))
    else:
        print(f"no picture of RandAugment's operations: data.augmentation is {data.augmentation!r}")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    """Writes a data set as shards."""
    if not arguments.out:
        raise UsageError("convert needs --out FOLDER")
    if arguments.shards is not None and arguments.shards < 1:
        raise UsageError(f"--shards {arguments.shards} must be at least 1")
    config = load_config(arguments).data
    from effnetv2_jax.data.conversion import ShardSize, convert_dataset

    console = make_console()
    size = ShardSize(arguments.shard_mb, arguments.shards or 0)
    with rich.progress.Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"writing {config.dataset}", total=None)
        done = convert_dataset(
            config,
            arguments.out,
            arguments.format,
            size,
            lambda count, total: progress.update(task, completed=count, total=total),
        )
    _list(console, "images that cannot be decoded, copied as they are", done.broken)
    manifest = done.manifest
    parts = (
        f"{manifest.split_sizes[split]:,} examples of {split} (shards: {len(counts):,})"
        for split, counts in manifest.examples.items()
    )
    total = sum(map(len, manifest.examples.values()))
    console.print(
        f"{arguments.out} holds {' and '.join(parts)}; shards written now: {done.written:,} of {total:,}.\n"
        f"To use it: --config.data.dataset=converted --config.data.data_dir={arguments.out}",
        markup=False,
    )
    return 0
