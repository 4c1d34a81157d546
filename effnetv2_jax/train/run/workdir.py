"""The run folder: its files, and the identity of the run that it holds."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from effnetv2_jax.model.provenance import CARD
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS
from effnetv2_jax.train.run.processes import is_first, wait_for_all

CONFIG, DATA, METRICS, SUMMARY = "config.json", "data.json", "metrics.jsonl", "summary.json"
"""Names in a run folder, besides `CARD`, the provenance of its weights."""

_WRITTEN_BY_STEPS = (CHECKPOINTS, METRICS, SUMMARY)
_SECONDS_TO_APPEAR = 30


@dataclasses.dataclass(frozen=True)
class RunIdentity:
    """What must not change when a run is resumed.

    Attributes:
      config: the configuration's fields by dotted name, as JSON values.
      free_fields: names of the fields that may change.
      data_origin: description of the data; equal descriptions mean equal examples.
      card: the provenance of the run's weights.
    """

    config: Mapping[str, Any]
    free_fields: frozenset[str]
    data_origin: str
    card: Mapping[str, str]


def run_folder(workdir: str) -> epath.Path:
    """Returns the absolute path of a run folder; `gs://…` is absolute already."""
    return epath.Path(workdir) if "://" in workdir else epath.Path(workdir).expanduser().resolve()


def claim(workdir: str, identity: RunIdentity) -> epath.Path:
    """Checks that a run folder holds no other run, writes the identity of a new run into it, and returns its path.

    All processes check before the first one writes, so that they see the same files.

    Raises:
      ValueError: if the folder holds a run with another configuration or on other data, or files of a run without its
        configuration, or if the processes do not share the folder.
    """
    folder = run_folder(workdir)
    _check(folder, identity)
    wait_for_all("all processes have checked the run folder")
    if is_first() and not _written_files(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / CARD, identity.card)
        _write_json(folder / DATA, {"origin": identity.data_origin})
        _write_json(folder / CONFIG, identity.config)
    wait_for_all("the run folder is written")
    _wait_until_visible(folder / CONFIG)
    return folder


def _check(folder: epath.Path, identity: RunIdentity) -> None:
    written = _written_files(folder)
    if not written:
        return
    if not (folder / CONFIG).exists():
        raise ValueError(
            f"{folder} contains {', '.join(written)} but no {CONFIG}, so no run can be resumed there; use another "
            "--workdir"
        )
    changed = _changed_fields(identity, json.loads((folder / CONFIG).read_text()))
    if changed:
        raise ValueError(
            f"{folder} contains a run with another configuration; use another --workdir or the same configuration. "
            f"Changed: {'; '.join(changed)}"
        )
    if (folder / DATA).exists():
        origin = json.loads((folder / DATA).read_text())["origin"]
        if origin != identity.data_origin:
            raise ValueError(
                f"{folder} contains a run on other data; use another --workdir or the same data. "
                f"Then: {origin}; now: {identity.data_origin}"
            )


def _changed_fields(identity: RunIdentity, saved: Mapping[str, Any]) -> list[str]:
    """Returns `field: then → now` for each field that must not change but has changed."""
    now, missing = identity.config, "missing"
    return [
        f"{name}: {saved.get(name, missing)!r} → {now.get(name, missing)!r}"
        for name in sorted((now.keys() | saved.keys()) - identity.free_fields)
        if now.get(name, missing) != saved.get(name, missing)
    ]


def _written_files(folder: epath.Path) -> list[str]:
    """Returns the names that training steps write and that have content. A run that was refused has written none."""
    return [name for name in _WRITTEN_BY_STEPS if _has_content(folder / name)]


def _has_content(path: epath.Path) -> bool:
    return any(True for _ in path.iterdir()) if path.is_dir() else path.exists() and path.stat().length > 0


def _write_json(path: epath.Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def _wait_until_visible(path: epath.Path) -> None:
    """Waits until a file of the first process appears; network file systems may show it late."""
    deadline = time.monotonic() + _SECONDS_TO_APPEAR
    while not path.exists():
        if time.monotonic() > deadline:
            raise ValueError(
                f"process {jax.process_index()} cannot see {path}, which process 0 wrote: --workdir must be a folder "
                "that all processes share"
            )
        time.sleep(0.5)
