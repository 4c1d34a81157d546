"""Tells from single rows of a network, which compile in seconds, which compiler options are worth a whole program."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

from jax.sharding import Mesh

from effnetv2_jax.analysis.plan import COMPILED_AT_ONCE, planned_experiment
from effnetv2_jax.analysis.program_cost import ProgramCost, program_cost
from effnetv2_jax.analysis.single_step import config_of_step, side_of_row
from effnetv2_jax.analysis.topology import Topology
from effnetv2_jax.analysis.tuning.compiler_options import CompilerOption
from effnetv2_jax.model.scaling import layers_of
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.train.devices.memory import DeviceMemoryError, UnknownOptionError
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.programs import train_program
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.tuned_programs import TunedProgram
from effnetv2_jax.train.tuning import Settings

_BLOCKS = 2
_SHARE = 0.75
"""The share of the cycles of all rows that the rows have which options are tried on."""

_LEAST_GAIN = 0.003
"""The share of the cycles of these rows that an option must save to be tried on whole programs."""

Report = Callable[[str], None]


def row_alone(spec: ModelSpec, row: int) -> ModelSpec:
    """Returns a network of two equal blocks: those of a row that follow its first one."""
    alone = dataclasses.replace(spec.rows[row], stride=1, repeats=_BLOCKS)
    return dataclasses.replace(
        spec,
        name=f"row {row} of {spec.name}",
        rows=(alone,),
        stem_features=alone.features,
        head_features=alone.features,
        depth=1.0,
    )


def options_worth_trying(
    experiment: Experiment,
    stage: Stage,
    microbatches: int,
    topology: Topology,
    mesh: Mesh,
    options: Sequence[CompilerOption],
    cache: str,
    report: Report = lambda _: None,
    is_over: Callable[[], bool] = lambda: False,
) -> list[CompilerOption]:
    """Returns the options, with those of their values, that save cycles in single rows of a stage, the best first.

    It compiles a training step of two blocks of each row, with a microbatch of the stage, and then the rows that take
    most of the network's cycles with each value of each option.

    Args:
      experiment: the run.
      stage: the stage.
      microbatches: the number of microbatches that its batch is divided into.
      topology: the slice.
      mesh: its mesh.
      options: the options to rank; only those that change what a chip computes can be seen here.
      cache: folder that stores costs, see `program_cost`.
      report: called with a line of text about each row and each value.
      is_over: whether the time for the search is over, which leaves the options that were not tried as they are.
    """
    rows = _Rows(experiment, stage, microbatches, topology, mesh, cache)
    spec, start = experiment.spec, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(COMPILED_AT_ONCE) as pool:

        def known(row: int, settings: Mapping[str, str]) -> int:
            return 0 if is_over() else rows.cycles(row, settings)

        plain = dict(enumerate(pool.map(lambda row: known(row, {}), range(len(spec.rows)))))
        layers = layers_of(spec)
        weights = {row: plain[row] * layers[row] for row in plain if plain[row]}
        chosen = _most(weights)
        report(
            f"{stage.name}: rows {', '.join(map(str, chosen))} take {_percent(weights, chosen)} of the blocks' cycles "
            f"({time.monotonic() - start:.0f} s); they tell which options to try"
        )
        tries = [(option, value) for option in options for value in option.values]
        results = list(pool.map(lambda each: [known(row, {each[0].name: each[1]}) for row in chosen], tries))
    ratios: dict[CompilerOption, dict[str, float]] = {}
    for (option, value), cycles in zip(tries, results, strict=True):
        if chosen and all(cycles):
            weighted = sum(weights[row] * after / plain[row] for row, after in zip(chosen, cycles, strict=True))
            ratio = weighted / sum(weights[row] for row in chosen)
            report(f"{stage.name}, rows {', '.join(map(str, chosen))}: {option.name}={value} takes {ratio:.3f} of it")
        else:
            ratio = 0.0 if is_over() else 1.0  # out of time: worth trying; refused or too large: not
        ratios.setdefault(option, {})[value] = ratio
    return _promising(ratios)


class _Rows:
    """The training steps of single rows of a network, at a stage's size and microbatch."""

    def __init__(
        self, experiment: Experiment, stage: Stage, microbatches: int, topology: Topology, mesh: Mesh, cache: str
    ) -> None:
        self._experiment, self._stage, self._microbatches = experiment, stage, microbatches
        self._topology, self._mesh, self._cache = topology, mesh, cache

    def cycles(self, row: int, options: Mapping[str, str]) -> int:
        """Returns the cycles of the two blocks; 0 if they do not fit, or an option is unknown."""
        experiment, spec = self._experiment, self._experiment.spec
        config = experiment.config
        batch = config.batch_size // self._microbatches
        size = 2 * side_of_row(spec, self._stage.image_size, row)
        alone = config_of_step(config, row_alone(spec, row), size)
        model = dataclasses.replace(alone.model, bn_group_size=min(alone.model.bn_group_size, batch))
        alone = dataclasses.replace(alone, model=model, batch_size=batch)
        small = planned_experiment(alone, self._topology.devices)
        (stage,) = small.stages
        small = dataclasses.replace(small, tuned={stage.name: TunedProgram(Settings(1, (), options))})
        try:
            cost = program_cost(train_program(small, stage, self._mesh), self._topology, self._cache)
        except (DeviceMemoryError, UnknownOptionError):
            return 0
        return _of_blocks(cost)


def _of_blocks(cost: ProgramCost) -> int:
    blocks = sum(cycles for layer, cycles in cost.cycles_by_layer.items() if layer.startswith("block_"))
    return blocks or cost.estimated_cycles


def _most(weights: Mapping[int, int]) -> list[int]:
    """Returns the fewest rows that have most of the cycles, in order."""
    chosen: list[int] = []
    for row in sorted(weights, key=lambda row: -weights[row]):
        if sum(weights[each] for each in chosen) < _SHARE * sum(weights.values()):
            chosen.append(row)
    return sorted(chosen)


def _percent(weights: Mapping[int, int], chosen: Sequence[int]) -> str:
    return f"{sum(weights[row] for row in chosen) / max(1, sum(weights.values())):.0%}"


def _promising(ratios: Mapping[CompilerOption, Mapping[str, float]]) -> list[CompilerOption]:
    """Returns the options with their two best values, without those that save next to nothing, the best first."""
    found = []
    for option, values in ratios.items():
        best = sorted((ratio, value) for value, ratio in values.items() if ratio <= 1 - _LEAST_GAIN)[:2]
        if best:
            found.append((best[0][0], option._replace(values=tuple(value for _, value in best))))
    return [option for _, option in sorted(found, key=lambda each: each[0])]
