"""Plans a run: lists its programs and, for a TPU slice, the compiler's estimates of their memory and time."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from effnetv2_jax.analysis.host_load import HostLoad, host_load, hosts_of
from effnetv2_jax.analysis.program_cost import CACHE, ProgramCost, cost_with_known_options
from effnetv2_jax.analysis.topology import Topology, make_mesh
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.dataset import dataset_info, recorded_info
from effnetv2_jax.model.summary import count_multiply_adds
from effnetv2_jax.train.config import EvaluationConfig, ModelConfig, TrainConfig
from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.devices.memory import DeviceMemoryError, smallest_fitting
from effnetv2_jax.train.devices.program import Program
from effnetv2_jax.train.experiment import Experiment, require_teacher
from effnetv2_jax.train.programs import eval_program, train_program
from effnetv2_jax.train.recipe.distillation import Teacher
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig
from effnetv2_jax.train.tuned_programs import EVALUATION, TunedProgram
from effnetv2_jax.train.tuning import Settings

COMPILED_AT_ONCE = 2
"""Programs to compile at the same time. The compiler keeps about one core busy with each."""


@dataclasses.dataclass(frozen=True)
class PlannedProgram:
    """One program of a run: a stage's training step, or evaluation.

    Attributes:
      name: name of the program.
      steps: number of calls in the whole run.
      image_size: height and width in pixels.
      batch_size: images per call, over all chips.
      flops_per_image: operations of a forward pass, computed from the spec; a multiply-add counts as two.
      settings: how it is compiled.
      origin: the tuning that says so, in words; "" for none.
      cost: cost of one call on one device of the slice; None without a slice, or if the program does not fit.
      needed_bytes: memory needed on one device, if the program does not fit; otherwise 0.
    """

    name: str
    steps: int
    image_size: int
    batch_size: int
    flops_per_image: float
    settings: Settings = dataclasses.field(default_factory=Settings)
    origin: str = ""
    cost: ProgramCost | None = None
    needed_bytes: int = 0

    @property
    def microbatches(self) -> int:
        """Number of microbatches per call."""
        return self.settings.microbatches


@dataclasses.dataclass(frozen=True)
class Plan:
    """The programs of a run, with evaluation last, and the slice that they were compiled for, if any."""

    experiment: Experiment
    topology: Topology | None
    programs: tuple[PlannedProgram, ...]

    @property
    def fits(self) -> bool:
        """Whether every program fits the slice's memory."""
        return not any(program.needed_bytes for program in self.programs)

    @property
    def hours(self) -> float:
        """The estimated hours of the run, including evaluation. The plan must have a slice that all programs fit."""
        return sum(self.hours_of(program) for program in self.programs)

    def hours_of(self, program: PlannedProgram) -> float:
        """Returns the estimated hours of all calls of a program."""
        return program.steps * self.seconds(program) / 3600

    def seconds(self, program: PlannedProgram) -> float:
        """Returns the estimated seconds of one call of a program."""
        assert program.cost is not None
        assert self.topology is not None
        return program.cost.estimated_cycles / self.topology.chip.clock

    def host_load(self, program: PlannedProgram) -> HostLoad:
        """Returns what each host has to do for a stage's program, so that the chips need not wait."""
        assert self.topology is not None
        rate, parts = program.batch_size / self.seconds(program), self.experiment.config.data.parts
        return host_load(self.topology, program.image_size, rate, parts)

    def figures(self, program: PlannedProgram) -> dict[str, Any]:
        """Returns the figures of a program as JSON values. Only a plan with a slice gives memory and time."""
        figures: dict[str, Any] = {
            "variant": self.experiment.spec.name,
            "program": program.name,
            "steps": program.steps,
            "image_size": program.image_size,
            "batch_size": program.batch_size,
            "flops_per_image": program.flops_per_image,
        }
        if not self.topology:
            return figures
        chip, devices, cost = self.topology.chip, self.topology.chip.devices, program.cost
        figures |= {
            "topology": self.topology.name,
            "batch_per_chip": program.batch_size // self.topology.chips,
            "accumulation_steps": program.microbatches,
            "remat": list(program.settings.remat),
            "compiler_options": dict(program.settings.compiler_options),
            "tuning": program.origin,
            "fits": cost is not None,
        }
        if cost is None:
            needed = devices * program.needed_bytes
            return figures | {"hbm_bytes": needed, "hbm_free_bytes": chip.hbm_bytes - needed}
        seconds = self.seconds(program)
        if program.name != EVALUATION:
            load = self.host_load(program)
            figures |= {
                "host_images_per_second": load.images_per_second,
                "host_read_bytes_per_second": load.bytes_per_second,
                "host_cores_needed": load.cores_needed,
                "host_cores": load.host.cores,
                "hosts": load.hosts,
                "limited_by": load.limit,
            }
        if self.topology.slices > 1:
            figures |= {"dcn_transfers": cost.dcn_transfers, "dcn_bytes": cost.dcn_bytes}
        return figures | {
            "hbm_bytes": devices * cost.hbm_bytes,
            "hbm_free_bytes": chip.hbm_bytes - devices * cost.hbm_bytes,
            "flops": devices * cost.flops,
            "estimated_cycles": cost.estimated_cycles,
            "step_seconds": seconds,
            "hours": self.hours_of(program),
            "chip_hours": self.hours_of(program) * self.topology.chips,
            "images_per_second_per_chip": program.batch_size / self.topology.chips / seconds,
            "mxu_fraction": devices * cost.flops / (chip.peak_flops * seconds),
            "hbm_fraction": devices * cost.bytes_accessed / (chip.hbm_bandwidth * seconds),
            "all_reduce_count": cost.all_reduce_count,
            "all_reduce_bytes": cost.all_reduce_bytes,
            "all_reduce_groups": dict(cost.all_reduce_groups),
            "compile_seconds": cost.compile_seconds,
        }


def planned_experiment(
    config: TrainConfig, devices: int, device: str = "", hosts: int = 1, teacher: Teacher | None = None
) -> Experiment:
    """Returns the experiment of a config, see `make_experiment`.

    It opens the data set only if `DATASETS` does not record its sizes.

    Raises:
      ValueError: for a config that cannot run, or that names a teacher which is not given.
    """
    info = recorded_info(config.data) or dataset_info(config.data)
    experiment = make_experiment(config, devices, hosts, info, device, teacher)
    require_teacher(experiment)
    return experiment


def experiment_on(config: TrainConfig, topology: Topology, teacher: Teacher | None = None) -> Experiment:
    """Returns the experiment of a config on a slice, with the project's own tunings where they fit."""
    return planned_experiment(config, topology.devices, topology.chip.name, hosts_of(topology)[1], teacher)


def config_of_variant(
    variant: str, sizes: Sequence[int], batch_per_chip: int, chips: int, dtype: Literal["float32", "bfloat16"]
) -> TrainConfig:
    """Returns a config that trains a variant on ImageNet with one stage for each image size."""
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
    report: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Returns the plan of a run. With a slice, it compiles every program for the slice, which takes minutes for each.

    Args:
      experiment: the run, made for the slice's number of devices.
      topology: the slice; None for a plan without memory and time.
      cache: folder that stores the costs of compiled programs; "" for no cache.
      report: called with a line of text at the start and after each program.
    """
    programs = planned_programs(experiment)
    if topology is None:
        return Plan(experiment, None, programs)
    mesh = make_mesh(topology)
    makers: list[Callable[[int], Program]] = [
        *(functools.partial(train_program, experiment, stage, mesh) for stage in experiment.stages),
        lambda _: eval_program(experiment, mesh),
    ]
    choices = [*(experiment.microbatches(stage.name) for stage in experiment.stages), (1,)]
    remat = {stage.name: experiment.config.model.remat for stage in experiment.stages} | {EVALUATION: ()}

    def with_cost(
        program: PlannedProgram, make_program: Callable[[int], Program], choices: tuple[int, ...]
    ) -> PlannedProgram:
        start = time.perf_counter()
        name = f"{topology.name} {program.name}, {program.image_size} px"
        tuned = experiment.tuned.get(program.name, TunedProgram(Settings(remat=remat[program.name])))
        settings = dataclasses.replace(tuned.settings, microbatches=choices[-1])
        program = dataclasses.replace(program, settings=settings, origin=tuned.origin)
        try:
            parts, (cost, options) = smallest_fitting(
                choices, lambda parts: cost_with_known_options(make_program(parts), topology, cache)
            )
        except DeviceMemoryError as error:
            report(f"{name}: does not fit: {error}")
            return dataclasses.replace(program, needed_bytes=error.needed)
        for option in settings.compiler_options.keys() - options.keys():
            report(f"warning: {name}: this compiler does not know {option}; the program is compiled without it")
        if is_outdated(tuned, parts, topology.name, cost.digest):
            report(
                f"warning: {name}: {tuned.origin} was made for an older version of this program; its settings are "
                "used, but another search with `effnetv2 tune` may find faster ones"
            )
        settings = dataclasses.replace(settings, microbatches=parts, compiler_options=options)
        report(f"{name}: {settings}, compiled or read from the cache in {time.perf_counter() - start:.0f} s")
        return dataclasses.replace(program, settings=settings, cost=cost)

    report(f"{topology.name}: compiling {len(programs)} programs; each that is not in the cache may take minutes")
    with concurrent.futures.ThreadPoolExecutor(COMPILED_AT_ONCE) as pool:
        return Plan(experiment, topology, tuple(pool.map(with_cost, programs, makers, choices)))


def is_outdated(tuned: TunedProgram, microbatches: int, topology: str, digest: str) -> bool:
    """Returns whether settings were found for another version of a program, compiled for a slice by this JAX."""
    same = tuned.topology == topology and tuned.settings.microbatches == microbatches and tuned.jax == jax.__version__
    return bool(tuned.digest) and same and tuned.digest != digest


def planned_programs(experiment: Experiment) -> tuple[PlannedProgram, ...]:
    """Returns the training step of each stage and the evaluation step, without costs."""

    def program(name: str, steps: int, image_size: int, batch_size: int) -> PlannedProgram:
        adds = count_multiply_adds(experiment.spec, image_size, experiment.dataset_info.num_classes)
        return PlannedProgram(name, steps, image_size, batch_size, 2.0 * adds)

    batch_size = experiment.config.batch_size
    stages = [program(stage.name, stage.steps, stage.image_size, batch_size) for stage in experiment.stages]
    every = experiment.evaluate_every
    evaluations = math.ceil(experiment.total_steps / every) if every else 1  # the last one is at the end of the run
    weights = 2 if experiment.config.ema_decay else 1
    batches = math.ceil(experiment.dataset_info.eval_examples / experiment.eval_batch_size)
    steps = evaluations * weights * batches
    return (*stages, program(EVALUATION, steps, experiment.eval_size, experiment.eval_batch_size))
