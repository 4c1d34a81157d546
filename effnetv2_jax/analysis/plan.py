"""What a run will cost: its stages, and with a TPU slice their memory and time as its compiler estimates them."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from effnetv2_jax.analysis.program_cost import CACHE, ProgramCost, program_cost
from effnetv2_jax.analysis.topology import Topology, make_mesh
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.pipeline import dataset_facts, recorded_facts
from effnetv2_jax.model.summary import count_multiply_adds
from effnetv2_jax.train.config import EvaluationConfig, ModelConfig, TrainConfig
from effnetv2_jax.train.devices.memory import DeviceMemoryError, smallest_fitting
from effnetv2_jax.train.experiment import Experiment, make_experiment
from effnetv2_jax.train.programs import EVALUATION, Source, eval_source, stage_name, train_source
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig

# Two programs at a time: the compiler keeps about one core busy with each.
_COMPILED_AT_ONCE = 2


@dataclasses.dataclass(frozen=True)
class Row:
    """One program of a run: a stage's training step, or evaluation.

    Attributes:
      name: of the program.
      steps: calls of it in the whole run.
      image_size: side in pixels.
      batch_size: images a call, of all chips.
      flops_per_image: of a forward pass, two a multiply-add, from the spec.
      microbatches: that a call goes through in turn.
      cost: on one device of the slice; None without a slice, or if it does not fit.
      needed_bytes: of memory on one device, if it does not fit.
    """

    name: str
    steps: int
    image_size: int
    batch_size: int
    flops_per_image: float
    microbatches: int = 1
    cost: ProgramCost | None = None
    needed_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Plan:
    """The programs of a run on a slice, training stages first."""

    experiment: Experiment
    topology: Topology | None
    rows: tuple[Row, ...]

    def seconds(self, row: Row) -> float:
        """Returns the estimated seconds of one call."""
        assert row.cost is not None
        assert self.topology is not None
        return row.cost.estimated_cycles / self.topology.chip.clock

    @property
    def fits(self) -> bool:
        """Whether every program fits the slice's memory."""
        return not any(row.needed_bytes for row in self.rows)

    def hours_of(self, row: Row) -> float:
        """Returns the estimated hours of all calls of one program."""
        return row.steps * self.seconds(row) / 3600

    @property
    def hours(self) -> float:
        """The estimated hours of the whole run, evaluation included; only of a plan that fits."""
        return sum(self.hours_of(row) for row in self.rows)

    def facts(self, row: Row) -> dict[str, Any]:
        """Returns a program's figures, JSON-ready; those of a slice only with one."""
        found: dict[str, Any] = {
            "variant": self.experiment.spec.name,
            "program": row.name,
            "steps": row.steps,
            "image_size": row.image_size,
            "batch_size": row.batch_size,
            "flops_per_image": row.flops_per_image,
        }
        if not self.topology:
            return found
        chip, devices = self.topology.chip, self.topology.chip.devices
        found |= {
            "topology": self.topology.name,
            "batch_per_chip": row.batch_size // self.topology.chips,
            "accumulation_steps": row.microbatches,
            "fits": row.cost is not None,
        }
        if row.cost is None:
            needed = devices * row.needed_bytes
            return found | {"hbm_bytes": needed, "hbm_free_bytes": chip.hbm_bytes - needed}
        seconds = self.seconds(row)
        if self.topology.slices > 1:
            found |= {"dcn_transfers": row.cost.dcn_transfers, "dcn_bytes": row.cost.dcn_bytes}
        return found | {
            "hbm_bytes": devices * row.cost.hbm_bytes,
            "hbm_free_bytes": chip.hbm_bytes - devices * row.cost.hbm_bytes,
            "flops": devices * row.cost.flops,
            "estimated_cycles": row.cost.estimated_cycles,
            "step_seconds": seconds,
            "hours": self.hours_of(row),
            "chip_hours": self.hours_of(row) * self.topology.chips,
            "images_per_second_per_chip": row.batch_size / self.topology.chips / seconds,
            "mxu_fraction": devices * row.cost.flops / (chip.peak_flops * seconds),
            "hbm_fraction": devices * row.cost.bytes_accessed / (chip.hbm_bandwidth * seconds),
            "all_reduce_count": row.cost.all_reduce_count,
            "all_reduce_bytes": row.cost.all_reduce_bytes,
            "all_reduce_groups": dict(row.cost.all_reduce_groups),
            "compile_seconds": row.cost.compile_seconds,
        }


def planned_experiment(config: TrainConfig, devices: int) -> Experiment:
    """Works out a run without its data where the data set's sizes are on record; others are opened."""
    return make_experiment(config, devices, facts=recorded_facts(config.data) or dataset_facts(config.data))


def single_programs(variant: str, sizes: Sequence[int], batch_per_chip: int, chips: int, dtype: str) -> TrainConfig:
    """Returns a config whose stages are a variant's training step at each of the sizes, on ImageNet's classes."""
    return TrainConfig(
        model=ModelConfig(variant=variant, dtype=dtype),
        data=DataConfig(dataset="imagenet2012"),
        progressive=ProgressiveConfig(preset="custom", stages=len(sizes), image_size=tuple(sizes)),
        evaluation=EvaluationConfig(image_size=sizes[-1]),
        batch_size=batch_per_chip * chips,
        steps=len(sizes),
    )


def make_plan(
    experiment: Experiment,
    topology: Topology | None,
    cache: str = CACHE,
    tell: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Returns the plan of a run; with a slice every program is compiled for it, which takes minutes each.

    Args:
      experiment: the run on the slice's number of devices.
      topology: the slice, or None for what the spec alone says.
      cache: a folder that keeps what compiling told, or "".
      tell: is given a line as each program is done.
    """
    rows = _rows(experiment)
    if topology is None:
        return Plan(experiment, None, rows)
    mesh = make_mesh(topology)
    sources: list[Callable[[int], Source]] = [
        *(functools.partial(train_source, experiment, stage, mesh) for stage in experiment.stages),
        lambda _: eval_source(experiment, mesh),
    ]
    choices = [*(experiment.accumulation for _ in experiment.stages), (1,)]

    def costed(row: Row, source: Callable[[int], Source], choices: tuple[int, ...]) -> Row:
        start = time.perf_counter()
        name = f"{topology.name} {row.name}, {row.image_size} px"
        try:
            parts, cost = smallest_fitting(choices, lambda parts: program_cost(source(parts), topology, cache))
        except DeviceMemoryError as error:
            tell(f"{name}: does not fit, {error}")
            return dataclasses.replace(row, microbatches=choices[-1], needed_bytes=error.needed)
        tell(f"{name}: {parts} microbatches, known after {time.perf_counter() - start:.0f} s")
        return dataclasses.replace(row, microbatches=parts, cost=cost)

    with concurrent.futures.ThreadPoolExecutor(_COMPILED_AT_ONCE) as pool:
        return Plan(experiment, topology, tuple(pool.map(costed, rows, sources, choices)))


def _rows(experiment: Experiment) -> tuple[Row, ...]:
    def row(name: str, steps: int, image_size: int, batch_size: int) -> Row:
        adds = count_multiply_adds(experiment.spec, image_size, experiment.facts.num_classes)
        return Row(name, steps, image_size, batch_size, 2.0 * adds)

    batch_size = experiment.config.batch_size
    stages = [row(stage_name(stage), stage.steps, stage.image_size, batch_size) for stage in experiment.stages]
    every = experiment.evaluate_every
    evaluations = math.ceil(experiment.total_steps / every) if every else 1  # the last one at the end
    weights = 2 if experiment.config.ema_decay else 1
    batches = math.ceil(experiment.facts.eval_examples / experiment.eval_batch_size)
    evaluation = row(EVALUATION, evaluations * weights * batches, experiment.eval_size, experiment.eval_batch_size)
    return (*stages, evaluation)
