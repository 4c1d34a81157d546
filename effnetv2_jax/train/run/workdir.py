"""A run's folder: whose it is, and what it was trained on."""

from __future__ import annotations

import json
import time

import jax
from etils import epath

from effnetv2_jax.model.provenance import CARD
from effnetv2_jax.train import config as configs
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.report import metrics
from effnetv2_jax.train.report.reporter import SUMMARY
from effnetv2_jax.train.run.checkpoint import FOLDER, run_folder
from effnetv2_jax.train.run.processes import is_first, wait_for_all

CONFIG, DATA = "config.json", "data.json"

_RUN_FILES = (FOLDER, metrics.FILE, SUMMARY)
_SECONDS_TO_APPEAR = 30


def claimed(workdir: str, experiment: Experiment) -> epath.Path:
    """Returns the run's folder; if no step was taken there, the config, the data's origin and what
    the weights are are written into it.

    All processes look before the first one writes, so that they find the same.

    Raises:
      ValueError: if the folder holds a run with another config or on other data, or the files of one without its
        config, or if not all processes share the folder.
    """
    folder = run_folder(workdir)
    _check(folder, experiment)
    wait_for_all("all have looked at the run's folder")
    if is_first() and not _begun(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARD).write_text(json.dumps(experiment.provenance().to_metadata(), indent=1) + "\n")
        (folder / DATA).write_text(json.dumps({"origin": experiment.facts.origin}, indent=1) + "\n")
        (folder / CONFIG).write_text(configs.to_json(experiment.config))
    wait_for_all("the run's folder is there")
    _require_shared(folder / CONFIG)
    return folder


def _check(folder: epath.Path, experiment: Experiment) -> None:
    found = _begun(folder)
    if not found:
        return
    if not (folder / CONFIG).exists():
        raise ValueError(
            f"{folder} has {', '.join(found)} but no {CONFIG}: not a run to go on with; take another --workdir"
        )
    different = configs.differences(experiment.config, (folder / CONFIG).read_text())
    if different:
        raise ValueError(
            f"{folder} holds a run with another config; take another --workdir or the same config. "
            f"Different: {'; '.join(different)}"
        )
    if (folder / DATA).exists():
        origin = json.loads((folder / DATA).read_text())["origin"]
        if origin != experiment.facts.origin:
            raise ValueError(
                f"{folder} holds a run on other data; take another --workdir or the same data. "
                f"It was: {origin}; now: {experiment.facts.origin}"
            )


def _begun(folder: epath.Path) -> list[str]:
    """Returns which of a run's files hold something: none before its first step, say of a run that was refused."""
    return [name for name in _RUN_FILES if _has_content(folder / name)]


def _has_content(path: epath.Path) -> bool:
    return any(True for _ in path.iterdir()) if path.is_dir() else path.exists() and path.stat().length > 0


def _require_shared(path: epath.Path) -> None:
    """Waits for what the first process wrote: network file systems show it late."""
    deadline = time.monotonic() + _SECONDS_TO_APPEAR
    while not path.exists():
        if time.monotonic() > deadline:
            raise ValueError(
                f"process {jax.process_index()} does not see {path}, which process 0 wrote: --workdir must be a folder "
                "that all processes share"
            )
        time.sleep(0.5)
