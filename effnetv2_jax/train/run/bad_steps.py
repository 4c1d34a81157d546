"""Bad steps: those whose loss or gradients are not finite."""

from __future__ import annotations

import math
from typing import Any

import jax

from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.step import Metrics
from effnetv2_jax.train.run.divergence import REMEDY, Diverged, check_metrics, what_is_bad, where


class BadSteps:
    """Counts the bad steps of a run, and stops it after too many in a row.

    Metrics are noted after every step and looked at only now and then, because looking waits for the device. Every
    process must look after the same steps; all of them see the same numbers. The count in a row starts again when a run
    is resumed.
    """

    def __init__(self, limit: int) -> None:
        """Starts to count.

        Args:
          limit: number of bad steps in a row that the training step may skip; 0 if it skips none.
        """
        self._limit = limit
        self._noted: list[tuple[int, Metrics]] = []
        self._in_a_row = 0
        self._state_is_sound = False  # whether a bad step in the row has a finite loss

    def note(self, step: int, metrics: Metrics) -> None:
        """Notes the metrics of a step, still on the device."""
        if not self._limit:
            self._noted.clear()  # the last step is enough, since a bad one makes all after it bad
        self._noted.append((step, metrics))

    def look(self, stage: Stage, params: Any) -> list[int]:
        """Looks at the steps noted since the last look, all of one stage, and returns those that were skipped.

        Args:
          stage: the stage of the steps.
          params: the parameters after the last of them.

        Raises:
          Diverged: if a step was bad and not skipped, or more than the limit were skipped in a row.
        """
        noted, self._noted = self._noted, []
        if not self._limit:
            for step, metrics in noted:
                check_metrics(metrics, step, stage, params)
            return []
        flags = jax.device_get([metrics["skipped"] for _, metrics in noted])
        skipped = []
        for (step, metrics), flag in zip(noted, flags, strict=True):
            if not flag:
                self._in_a_row, self._state_is_sound = 0, False
                continue
            skipped.append(step)
            self._in_a_row += 1
            self._state_is_sound |= math.isfinite(float(metrics["loss"]))
            if self._in_a_row > self._limit:
                raise self._too_many(step, metrics, stage, params)
        return skipped

    def _too_many(self, step: int, metrics: Metrics, stage: Stage, params: Any) -> Diverged:
        return Diverged(
            f"{what_is_bad(metrics)} at step {step}, the last of {self._in_a_row} bad steps in a row, and "
            f"optimizer.max_bad_steps is {self._limit} ({where(metrics, stage, params)}); {REMEDY}",
            None if self._state_is_sound else step - self._in_a_row,
        )
