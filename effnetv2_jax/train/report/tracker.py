"""A tracker that also gets a run's metrics: Weights & Biases or Trackio, which have the same functions."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from effnetv2_jax.train.run_folder.json_file import read_json, write_json

TRACKER = "tracker.json"
"""The file in a run folder that holds the name by which the tracker knows the run."""


def require_tracker(name: str) -> None:
    """Checks that a tracker is installed; "" stands for none.

    Raises:
      ModuleNotFoundError: if it is not.
    """
    if name and importlib.util.find_spec(name) is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class Tracker:
    """Sends a run's metrics to a tracker. If the tracker fails, the run goes on without it.

    The name of the run is kept in the run folder, so that a run that resumes goes on in the same place.
    """

    def __init__(
        self, name: str, project: str, folder: epath.Path, config: Mapping[str, Any], warn: Callable[[str], None]
    ) -> None:
        """Starts or resumes the run's record.

        Args:
          name: `wandb` or `trackio`, which is installed.
          project: the project that the run belongs to.
          folder: the run folder, which exists.
          config: the run's configuration by dotted name.
          warn: shows a warning when the tracker fails.
        """
        self._name = name
        self._warn = warn
        self._module: Any = importlib.import_module(name)
        path = folder / TRACKER
        if not path.exists():
            write_json(path, {"run": f"{folder.name}-{uuid.uuid4().hex[:8]}"})
        run = str(read_json(path, dict)["run"])
        known = {"id": run} if name == "wandb" else {}  # Trackio knows a run by its name alone
        self._call("init", project=project, name=run, config=dict(config), resume="allow", **known)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends a row of metrics after a step."""
        self._call("log", dict(values), step=step)

    def close(self) -> None:
        """Ends the record, and waits until it is sent."""
        self._call("finish")

    def _call(self, function: str, *arguments: Any, **named: Any) -> None:
        if not self._module:
            return
        try:
            getattr(self._module, function)(*arguments, **named)
        except Exception as error:  # trackers raise errors of their own, which must not end a run
            self._module = None
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self._warn(f"{self._name} gets no more metrics of this run: {reason}")
