"""The starts of a run: when, at which step, with which versions and on which devices, and what had changed."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath

from effnetv2_jax.train.run_folder.changes import Change
from effnetv2_jax.train.run_folder.json_file import read_json
from effnetv2_jax.version import __version__

STARTS = "starts.json"
"""Name of the file in a run folder that records the starts, the newest one last."""

_PACKAGES = (
    "jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "tensorflow", "tensorflow-cpu",
    "tensorflow-datasets", "numpy",
)  # fmt: skip

StartRecord = dict[str, Any]


def read_starts(folder: epath.Path) -> list[StartRecord]:
    """Returns the records of a run's starts, the newest one last; none if the file does not exist.

    Raises:
      ValueError: if the file is damaged.
    """
    path = folder / STARTS
    return read_json(path, list) if path.exists() else []


def start_record(
    step: int, stage_ends: Sequence[int], changes: Mapping[str, Change], settings: Mapping[str, str]
) -> StartRecord:
    """Returns the record of a start now.

    Args:
      step: number of steps done.
      stage_ends: the last step of each stage.
      changes: the fields of the config that have changed since the start before.
      settings: name of a program → how a tuning compiles it, in words.
    """
    return {
        "step": step,
        "time": dt.datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": _versions(),
        "devices": _devices(),
        "stage_ends": list(stage_ends),
        "changes": {name: list(change) for name, change in changes.items()},
        "settings": dict(settings),
    }


def changed_names(starts: Sequence[StartRecord]) -> set[str]:
    """Returns the names of the fields that have changed at any start."""
    return {name for start in starts for name in start.get("changes", {})}


def differences(before: StartRecord, now: StartRecord) -> list[str]:
    """Returns what differs between two starts, apart from the config, as lines to warn with."""
    lines = []
    others = [
        f"{name} {old} → {value}"
        for part in ("versions", "devices")
        for name in sorted(before.get(part, {}).keys() | now[part].keys())
        if (old := before.get(part, {}).get(name, "none")) != (value := now[part].get(name, "none"))
    ]
    if others:
        lines.append(
            f"changed since the last start: {', '.join(others)}; a run resumes to the same bits only with the "
            "same versions and devices"
        )
    lines += _other_settings(before.get("settings", {}), now["settings"])
    ends: list[int] = now["stage_ends"]
    then: list[int] = before.get("stage_ends", ends)
    if then != ends:
        stages = tuple(_stage(of, now["step"]) for of in (then, ends))
        moved = (
            f", and its stages end after the steps {_listed(ends)} instead of {_listed(then)}" if len(ends) > 1 else ""
        )
        moved += f"; it goes on in stage {stages[1]} instead of {stages[0]}" if stages[0] != stages[1] else ""
        lines.append(
            f"the run has {ends[-1]:,} steps instead of {then[-1]:,}{moved}; a cosine or linear learning rate "
            "follows the new length"
        )
    return lines


def _other_settings(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns a line about the programs that are compiled otherwise than at the last start; none if there are none."""
    others = [
        f"{name} ({before.get(name, 'without a tuning')} → {now.get(name, 'without a tuning')})"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if not others:
        return []
    return [
        f"compiled otherwise since the last start: {', '.join(others)}; such programs round otherwise, so from here on "
        "the run has other bits than one that was not interrupted (tuning=none and tuning=FILE do not change by "
        "themselves)"
    ]


def _listed(ends: Sequence[int]) -> str:
    return ", ".join(map(str, ends))


def _stage(ends: Sequence[int], step: int) -> int:
    """Returns the number of the stage, from 1, that the next step belongs to."""
    return min(sum(end <= step for end in ends) + 1, len(ends))


def _versions() -> dict[str, str]:
    """Returns the versions of the program and of the installed packages that a run's numbers depend on."""
    versions = {"Python": platform.python_version(), "effnetv2_jax": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # such as libtpu on a machine without TPUs
            continue
    return versions


def _devices() -> dict[str, str | int]:
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device kind": device.device_kind,
        "number of devices": jax.device_count(),
        "number of processes": jax.process_count(),
    }
