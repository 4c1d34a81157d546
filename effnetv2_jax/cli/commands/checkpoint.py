"""`effnetv2 checkpoint list`, `verify` and `digest`."""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from etils import epath

from effnetv2_jax.byte_size import byte_size
from effnetv2_jax.cli.options.numbers import whole
from effnetv2_jax.cli.tables.table import make_table
from effnetv2_jax.train.report.console import make_console

if TYPE_CHECKING:
    from effnetv2_jax.model.variables import Variables
    from effnetv2_jax.train.checkpoint.checkpoints import Checkpoints

_ACTIONS = {
    "list": "the steps that are saved, with time, size and accuracy",
    "verify": "read every checkpoint whole, and compare each array with the digest that was saved with it, and the "
    "weights with the network of the run",
    "digest": "print the digest of a checkpoint, which is the same for the same bits in every array",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "action", choices=_ACTIONS, help="; ".join(f"{name}: {text}" for name, text in _ACTIONS.items())
    )
    parser.add_argument("folder", metavar="DIR", help="a run folder, its checkpoints, or one of them; a path or gs://…")
    parser.add_argument(
        "--step", type=whole(0), help="only the checkpoint of this step (default: every one; for digest, the latest)"
    )
    parser.add_argument(
        "--arrays",
        action="store_true",
        help="with digest: print the digest of each array first (default: only that of the whole)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Lists, verifies or digests checkpoints. Returns 1 if one is damaged."""
    import jax

    from effnetv2_jax.train.checkpoint.checkpoints import find_checkpoints

    jax.config.update("jax_platforms", "cpu")  # reading needs no accelerator, and a run may be using it
    checkpoints, named = find_checkpoints(arguments.folder)
    step = named if arguments.step is None else arguments.step
    if arguments.action == "digest":
        return _digest(checkpoints, step, arguments.arrays)
    steps = checkpoints.steps if step is None else [int(checkpoints.path(step).name)]
    return {"list": _list, "verify": _verify}[arguments.action](checkpoints, steps)


def _list(checkpoints: Checkpoints, steps: list[int]) -> int:
    from effnetv2_jax.train.report.metrics import read_metrics

    metrics: dict[int, dict[str, float]] = {}
    for row in read_metrics(checkpoints.folder.parent):
        metrics.setdefault(row["step"], {}).update(row)
    rows = [_row(checkpoints.folder / str(step)) | metrics.get(step, {}) for step in steps]
    columns: dict[str, tuple[Any, ...]] = {
        "step": ("step", "{:,}"),
        "saved": ("saved", "{}"),
        "size": ("size", "{}"),
        "top-1 raw": ("raw/top1", "{:.2f} %"),
        "top-1 averaged": ("averaged/top1", "{:.2f} %"),
    }
    make_console().print(make_table(rows, columns))
    return 0


def _row(path: epath.Path) -> dict[str, Any]:
    files = [file.stat() for file in _files(path)]
    saved = max((file.mtime for file in files), default=path.stat().mtime)
    return {
        "step": int(path.name),
        "saved": dt.datetime.fromtimestamp(saved).astimezone().isoformat(" ", "seconds"),
        "size": byte_size(sum(file.length for file in files)),
    }


def _files(path: epath.Path) -> Iterator[epath.Path]:
    for inner in path.iterdir() if path.is_dir() else ():
        yield from _files(inner) if inner.is_dir() else [inner]


def _verify(checkpoints: Checkpoints, steps: list[int]) -> int:
    from effnetv2_jax.train.checkpoint.orbax_folder import DamagedCheckpointError

    damaged, shapes = 0, _variable_shapes(checkpoints.path(steps[0]))
    for step in steps:
        try:
            saved = checkpoints.read(step)
            if shapes:
                saved.weights(shapes)
        except DamagedCheckpointError as error:
            damaged += 1
            print(f"step {step}: DAMAGED: {error}")
        else:
            print(f"step {step}: sound, {len(saved.arrays):,} arrays, digest {saved.record.digest}")
    if damaged:
        print(f"{damaged} of {len(steps)} checkpoints are damaged; `effnetv2 train` goes on from the newest sound one")
    return 1 if damaged else 0


def _variable_shapes(path: epath.Path) -> Variables | None:
    """Returns the shapes of the variables of a checkpoint's run, or None if its folder does not tell its network."""
    from effnetv2_jax.convert.formats.run_folder import read_card
    from effnetv2_jax.model.efficientnetv2 import create_model
    from effnetv2_jax.model.provenance import provenance_from_metadata
    from effnetv2_jax.model.variables import variable_shapes

    provenance = provenance_from_metadata(read_card(path))
    if provenance is None:
        return None
    return variable_shapes(create_model(provenance.spec, num_classes=provenance.num_classes))


def _digest(checkpoints: Checkpoints, step: int | None, arrays: bool) -> int:
    record = checkpoints.verify(step)
    for name in sorted(record.digests) if arrays else ():
        print(f"{record.digests[name]}  {record.arrays[name]}  {name}")
    print(record.digest)
    return 0
