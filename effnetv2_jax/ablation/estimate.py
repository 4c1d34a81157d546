"""The estimated time of the runs' steps on a TPU that need not be present."""

from __future__ import annotations

from collections.abc import Callable

from effnetv2_jax.ablation.outline import Outline
from effnetv2_jax.analysis.row_sum import RowSum
from effnetv2_jax.analysis.topology import Topology
from effnetv2_jax.model.specs import ModelSpec


class StepEstimate:
    """Estimates training steps as sums of rows that the TPU compiler compiles once each, and keeps them."""

    def __init__(self, topology: Topology, report: Callable[[str], None] = lambda _: None) -> None:
        """Prepares the estimates.

        Args:
          topology: the TPU slice.
          report: called with a line of text about each estimate that compiles rows.
        """
        self._topology, self._report = topology, report
        self._sums: dict[int, RowSum] = {}
        self._known: dict[tuple[ModelSpec, int], float] = {}

    def __call__(self, run: Outline, image_size: int) -> float:
        """Returns the estimated seconds of a run's training step at an image size in pixels.

        All runs must have the same batch, classes and optimiser.

        Raises:
          DeviceMemoryError: if a row alone does not fit the memory of a chip.
        """
        spec = run.spec
        if (spec, image_size) not in self._known:
            self._report(f"estimating {spec.name} at {image_size} px for {self._topology.name}")
            rows = self._sums.setdefault(image_size, RowSum(run.config, image_size, self._topology))
            self._known[spec, image_size] = rows.seconds(spec)
        return self._known[spec, image_size]
