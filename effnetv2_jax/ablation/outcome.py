"""What came of a run: its accuracy, and the time that its steps took."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping

from etils import epath

from effnetv2_jax.train.report.metrics import read_metrics
from effnetv2_jax.train.run_folder.claim import SUMMARY
from effnetv2_jax.train.run_folder.json_file import read_json, write_json

FAILURE = "failure.json"
"""The file in a run folder that tells why the run failed: it diverged, or does not fit the memory."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
      top1: weights, `reported` or `raw` → top-1 in per cent at the end; none if the run failed.
      images_per_second: image size in pixels → the median rate of the training steps at that size.
      failure: why the run failed; "" if it did not.
    """

    top1: Mapping[str, float] = dataclasses.field(default_factory=dict)
    images_per_second: Mapping[int, float] = dataclasses.field(default_factory=dict)
    failure: str = ""


def is_finished(folder: epath.Path) -> bool:
    """Returns whether the run in a folder was trained to its end, or failed."""
    return (folder / SUMMARY).exists() or (folder / FAILURE).exists()


def record_failure(folder: epath.Path, error: Exception) -> None:
    """Records why the run in a folder failed, so that it is not trained again.

    Raises:
      OSError: if it cannot be written.
    """
    text = next(iter(str(error).splitlines()), type(error).__name__)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FAILURE, {"failure": text})


def read_outcome(folder: epath.Path) -> Outcome | None:
    """Returns the outcome of the run in a folder; None if it is not finished.

    Raises:
      ValueError: if its files are damaged.
    """
    if not is_finished(folder):
        return None
    if not (folder / SUMMARY).exists():
        return Outcome(failure=str(read_json(folder / FAILURE, dict).get("failure")))
    summary = read_json(folder / SUMMARY, dict)
    try:
        reported = summary["top1_averaged" if summary["reported_weights"] == "averaged" else "top1"]
        top1 = {"reported": float(reported), "raw": float(summary["top1"])}
        rates: dict[int, list[float]] = {}
        for row in read_metrics(folder):
            if "train/images_per_second" in row:
                rates.setdefault(int(row["train/image_size"]), []).append(float(row["train/images_per_second"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} contains a damaged {SUMMARY} or metrics: {error!r}") from None
    return Outcome(top1, {size: statistics.median(values) for size, values in rates.items()})
