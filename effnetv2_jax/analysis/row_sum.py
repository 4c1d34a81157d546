"""The training step of any network on an absent TPU, estimated as a sum of rows that are compiled once each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import NamedTuple

from effnetv2_jax.analysis.plan import planned_experiment
from effnetv2_jax.analysis.program_cost import CACHE, ProgramCost, program_cost
from effnetv2_jax.analysis.single_step import config_of_step, side_of_row
from effnetv2_jax.analysis.topology import Topology, make_mesh
from effnetv2_jax.model.scaling import layers_of
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.summary import components
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.programs import train_program

_UPDATE = "loss, optimiser and averages"
_SMALL_HEAD = 8


class _Row(NamedTuple):
    """A row that is compiled by itself: a network of its first block and, if it has more, one of the others."""

    spec: ModelSpec
    image_size: int


class _Cycles(NamedTuple):
    """Cycles of a row's first block, of each later one, and of what is before and after all blocks."""

    first: float
    later: float
    stem: float
    head: float


class RowSum:
    """Estimates training steps as sums of rows; each row is compiled once, and its cost is kept in a folder."""

    def __init__(self, config: TrainConfig, image_size: int, topology: Topology, cache: str = CACHE) -> None:
        """Prepares the estimates.

        Args:
          config: the run whose batch, dtype, optimiser and classes count; its network does not.
          image_size: side of the training images in pixels.
          topology: the TPU slice.
          cache: folder that stores costs by the content of the program; "" for none.
        """
        self._config, self._image_size, self._topology, self._cache = config, image_size, topology, cache
        self._mesh = make_mesh(topology)
        self._known: dict[_Row, _Cycles] = {}

    def seconds(self, spec: ModelSpec) -> float:
        """Returns the estimated seconds of a training step.

        Raises:
          DeviceMemoryError: if a row alone does not fit the memory of a chip.
        """
        layers = layers_of(spec)
        total = 0.0
        for number, count in enumerate(layers):
            row = _row_alone(spec, number, self._image_size)
            if row not in self._known:
                self._known[row] = self._compiled(row)
            cycles = self._known[row]
            total += cycles.first + (count - 1) * cycles.later
            total += cycles.stem if number == 0 else 0.0
            total += cycles.head if number == len(layers) - 1 else 0.0
        return total / self._topology.chip.clock

    def whole_seconds(self, spec: ModelSpec) -> float:
        """Returns the compiler's estimate for the whole network, which takes minutes.

        Raises:
          DeviceMemoryError: if the step does not fit the memory of a chip.
        """
        return self._cost(spec, self._image_size).estimated_cycles / self._topology.chip.clock

    def _compiled(self, row: _Row) -> _Cycles:
        classes = self._experiment(row.spec, row.image_size).model.num_classes
        parameters = {each.name: each.parameters for each in components(row.spec, row.image_size, classes)}
        return _cycles(self._cost(row.spec, row.image_size), parameters)

    def _cost(self, spec: ModelSpec, image_size: int) -> ProgramCost:
        experiment = self._experiment(spec, image_size)
        return program_cost(train_program(experiment, experiment.stages[0], self._mesh), self._topology, self._cache)

    def _experiment(self, spec: ModelSpec, image_size: int) -> Experiment:
        return planned_experiment(config_of_step(self._config, spec, image_size), self._topology.devices)


def _row_alone(spec: ModelSpec, number: int, image_size: int) -> _Row:
    """Returns a row as a network, with the stem of the whole network before the first row, and its head after the last.

    Equal rows of different networks are equal as networks, whatever the name and the rest of the networks are.
    """
    last = number == len(spec.rows) - 1
    row = spec.rows[number]
    alone = ModelSpec(
        name="a row alone",
        rows=(dataclasses.replace(row, features=spec.features(row.features), repeats=min(2, layers_of(spec)[number])),),
        stem_features=spec.features(spec.rows[number - 1].features) if number else spec.stem.features,
        citation="",
        train_size=image_size,
        eval_size=image_size,
        dropout_rate=spec.dropout_rate,
        head_features=spec.head_width if last else _SMALL_HEAD,
        drop_path_rate=spec.drop_path_rate,
        bn_momentum=spec.bn_momentum,
        bn_epsilon=spec.bn_epsilon,
        padding=spec.padding,
        rounding=spec.rounding,
        projects_expand_1=spec.projects_expand_1,
        rounds_se=spec.rounds_se,
    )
    return _Row(alone, 2 * side_of_row(spec, image_size, number - 1) if number else image_size)


def _cycles(cost: ProgramCost, parameters: Mapping[str, int]) -> _Cycles:
    """Divides the cycles of a row's program; the update of the parameters is divided by their numbers."""
    found = dict.fromkeys(parameters, 0.0)
    for layer, cycles in cost.cycles_by_layer.items():
        if layer != _UPDATE:
            found[_component(layer, parameters)] += cycles
    update = cost.cycles_by_layer.get(_UPDATE, 0) / sum(parameters.values())
    found = {name: cycles + update * parameters[name] for name, cycles in found.items()}
    head = sum(cycles for name, cycles in found.items() if name in ("head", "classifier"))
    return _Cycles(found["block_0"], found.get("block_1", 0.0), found["stem"], head)


def _component(layer: str, known: Mapping[str, int]) -> str:
    """Returns the component of a layer as the compiler's estimate names it, such as `block_1/expand_conv (gradient)`.

    Work on the images as they come in counts to the stem, and everything else, such as the dropout, to the classifier.
    """
    name = (re.match(r"block_\d+|stem|head", layer) or [""])[0]
    return name if name in known else ("stem" if layer == "convert_element_type" else "classifier")
