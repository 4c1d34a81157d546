"""The search for fast programs of a run: the best settings so far, and the changes of them that are tried."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from effnetv2_jax.analysis.plan import COMPILED_AT_ONCE, Plan, planned_programs
from effnetv2_jax.analysis.program_cost import ProgramCost, program_cost
from effnetv2_jax.analysis.topology import Topology, make_mesh
from effnetv2_jax.analysis.tuning.compiler_options import CompilerOption
from effnetv2_jax.analysis.tuning.single_rows import options_worth_trying
from effnetv2_jax.train.devices.memory import DeviceMemoryError, UnknownOptionError
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.microbatches import possible_microbatches, with_the_same_groups
from effnetv2_jax.train.programs import eval_program, train_program
from effnetv2_jax.train.tuned_programs import EVALUATION, TunedProgram, tuned_fields
from effnetv2_jax.train.tuning import Settings, Tuning

Changes = Callable[[str], Iterable[Settings]]
"""Name of a program → settings to try instead of its best."""

_LEAST_GAIN = 0.001
"""The share of a program's cycles, or of the bytes that it waits for, that a change must save."""

_IMAGES_PER_DEVICE = (32, 64, 96, 128, 192, 256, 512)
"""Images of a microbatch on one device to try: those of 128 fill the lanes of a vector."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
      before: the plan of the run as its config compiles it.
      after: the plan with the settings that were found.
      tuning: these settings.
      tried: number of programs that were compiled or read from the cache.
      complete: whether the search ended by itself, rather than at the end of its time.
    """

    before: Plan
    after: Plan
    tuning: Tuning
    tried: int
    complete: bool


class Search:
    """The programs of a run, the best settings of each so far, and the cost of all settings that were tried."""

    def __init__(
        self,
        experiment: Experiment,
        topology: Topology,
        cache: str,
        report: Callable[[str], None],
        deadline: float | None,
    ) -> None:
        self._experiment = experiment
        self._topology = topology
        self._cache = cache
        self._report = report
        self._deadline = deadline
        self._mesh = make_mesh(topology)
        possible = possible_microbatches(experiment.config, topology.devices)
        self._possible = with_the_same_groups(experiment.config, possible)
        self._stages = {stage.name: stage for stage in experiment.stages}
        self._programs = {program.name: program for program in planned_programs(experiment)}
        self._costs: dict[tuple[str, str], ProgramCost | None] = {}
        self._refused: set[str] = set()
        self._before: dict[str, Settings] = {}
        self._best: dict[str, Settings] = {}
        self._slowest = ""  # the stage that takes the most of the run before the search

    @property
    def is_over(self) -> bool:
        """Whether the time for the search is over."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def start(self) -> None:
        """Finds the settings that the config has by itself: the first number of microbatches that fits.

        Raises:
          DeviceMemoryError: if none fits.
        """
        self._deadline, deadline = None, self._deadline
        with concurrent.futures.ThreadPoolExecutor(COMPILED_AT_ONCE) as pool:
            self._before = dict(zip(self._programs, pool.map(self._first_fitting, self._programs), strict=True))
        self._best = dict(self._before)
        self._slowest = max(self._stages, key=self._cycles_of_run)
        self._deadline = deadline

    def _first_fitting(self, name: str) -> Settings:
        in_training = name in self._stages
        choices = self._experiment.microbatches(name) if in_training else (1,)
        remat = self._experiment.config.model.remat if in_training else ()
        tries = [Settings(count, remat) for count in choices]
        for settings in tries:
            if self._cost(name, settings):
                return settings
        self._make_cost(name, tries[-1])  # raises the error again
        raise AssertionError

    def worth_trying(self, options: Sequence[CompilerOption]) -> list[CompilerOption]:
        """Returns the options, with those values, that save cycles in single rows of the slowest stage."""
        name = self._slowest
        count = self._best[name].microbatches
        return options_worth_trying(
            self._experiment,
            self._stages[name],
            count,
            self._topology,
            self._mesh,
            options,
            self._cache,
            self._report,
            lambda: self.is_over,
        )

    def improve(self, changes: Changes, names: Iterable[str] = ()) -> bool:
        """Tries changes of the best settings of programs, keeps those that help, and returns whether any did."""
        tries = [(name, settings) for name in names or self._best for settings in changes(name)]
        with concurrent.futures.ThreadPoolExecutor(COMPILED_AT_ONCE) as pool:
            costs = list(pool.map(lambda each: self._cost(*each), tries))
        helped = False
        for (name, settings), cost in zip(tries, costs, strict=True):
            best = self._known(name, self._best[name])
            if cost and _is_better(cost, best):
                self._best[name], helped = settings, True
        return helped

    def improve_as_slowest(self, changes: Changes) -> bool:
        """Does the same for the slowest stage; the other programs try only the change that has helped it."""
        if not self.improve(changes, [self._slowest]):
            return False
        chosen = self._best[self._slowest]

        def alike(name: str) -> Iterator[Settings]:
            for settings in changes(name):
                in_evaluation = name == EVALUATION
                same_images = in_evaluation or self._images(name, settings) == self._images(self._slowest, chosen)
                same_rows = in_evaluation or settings.remat == chosen.remat
                if settings.compiler_options == chosen.compiler_options and same_images and same_rows:
                    yield settings

        self.improve(alike, [name for name in self._best if name != self._slowest])
        return True

    def _images(self, name: str, settings: Settings) -> int:
        """Returns the images of a microbatch on each device."""
        return self._experiment.work(self._topology.devices)[name].images_per_device // settings.microbatches

    def improve_communication(self, options: Sequence[CompilerOption]) -> bool:
        """Tries options together, without those that the compiler refuses, and returns whether they helped."""
        while True:
            known = {option.name: option.values[0] for option in options if option.name not in self._refused}

            def changes(name: str, known: Mapping[str, str] = known) -> Iterator[Settings]:
                best = self._best[name]
                if known and not known.items() <= best.compiler_options.items():
                    yield dataclasses.replace(best, compiler_options={**best.compiler_options, **known})

            refused = len(self._refused)
            helped = self.improve_as_slowest(changes)
            if helped or len(self._refused) == refused:
                return helped

    def with_option(self, option: CompilerOption) -> Changes:
        """Returns changes: the values of a compiler option, and none."""

        def changes(name: str) -> Iterator[Settings]:
            best = self._best[name]
            rest = {key: value for key, value in best.compiler_options.items() if key != option.name}
            for value in option.values:
                yield dataclasses.replace(best, compiler_options={**rest, option.name: value})
            yield dataclasses.replace(best, compiler_options=rest)

        return changes

    def with_microbatches(self, name: str) -> Iterator[Settings]:
        """The changes of a stage's number of microbatches."""
        if name in self._stages:
            share = self._experiment.work(self._topology.devices)[name].images_per_device
            for count in self._possible:
                if share // count in _IMAGES_PER_DEVICE or share == share // count:
                    yield dataclasses.replace(self._best[name], microbatches=count)

    def with_remat(self, name: str) -> Iterator[Settings]:
        """The changes of a stage to fewer microbatches, which fit only if rows are computed again."""
        best = self._best[name]
        fewer = max((count for count in self._possible if count < best.microbatches), default=0)
        if name in self._stages and fewer and self._cost(name, dataclasses.replace(best, microbatches=fewer)) is None:
            for rows in ((0,), (0, 1)):
                yield dataclasses.replace(best, microbatches=fewer, remat=rows)

    def result(self) -> Result:
        """Returns what was found."""
        work = self._experiment.work(self._topology.devices)
        made_with = {name: importlib.metadata.version(name) for name in ("effnetv2_jax", "jax", "libtpu")}
        fields = tuned_fields(self._experiment.config)
        digests = {name: self._known(name, settings).digest for name, settings in self._best.items()}
        tuning = Tuning(
            self._topology.chip.name, fields, work, dict(self._best), made_with, self._topology.name, digests
        )
        before, after = self._plan(self._before), self._plan(self._best)
        return Result(before, after, tuning, tried=len(self._costs), complete=not self.is_over)

    def _plan(self, settings: Mapping[str, Settings]) -> Plan:
        programs = tuple(
            dataclasses.replace(
                program,
                settings=settings[name],
                cost=self._known(name, settings[name]),
            )
            for name, program in self._programs.items()
        )
        return Plan(self._experiment, self._topology, programs)

    def _cycles_of_run(self, name: str) -> int:
        return self._programs[name].steps * self._known(name, self._best[name]).estimated_cycles

    def _known(self, name: str, settings: Settings) -> ProgramCost:
        cost = self._costs[name, str(settings)]
        assert cost is not None
        return cost

    def _cost(self, name: str, settings: Settings) -> ProgramCost | None:
        """Returns the cost of a program, or None if it does not fit, an option is unknown, or the time is over."""
        key = name, str(settings)
        if key in self._costs or self.is_over or self._refused & settings.compiler_options.keys():
            return self._costs.get(key)
        start, cost = time.monotonic(), None
        try:
            cost = self._costs[key] = self._make_cost(name, settings)
            told = f"{cost.estimated_cycles / 1e6:.2f} M cycles"
            if name in self._best:
                told += f", the best so far {self._known(name, self._best[name]).estimated_cycles / 1e6:.2f}"
        except DeviceMemoryError as error:
            self._costs[key] = None
            told = f"does not fit: {error.needed / 2**30:.3g} of {error.available / 2**30:.3g} GiB"
        except UnknownOptionError as error:
            self._refused.add(error.name)
            told = f"skipped: {error}"
        self._report(f"{name}, {settings}: {told} ({time.monotonic() - start:.0f} s)")
        return cost

    def _make_cost(self, name: str, settings: Settings) -> ProgramCost:
        experiment = dataclasses.replace(self._experiment, tuned={name: TunedProgram(settings)})
        program = (
            eval_program(experiment, self._mesh)
            if name == EVALUATION
            else train_program(experiment, self._stages[name], self._mesh, settings.microbatches)
        )
        return program_cost(program, self._topology, self._cache)


def _is_better(cost: ProgramCost, best: ProgramCost) -> bool:
    """Returns whether a program takes fewer cycles, or as many and waits for fewer bytes of all-reduces."""
    ratio = cost.estimated_cycles / best.estimated_cycles
    waits_less = cost.waiting_bytes < (1 - _LEAST_GAIN) * best.waiting_bytes
    return ratio < 1 - _LEAST_GAIN or (ratio < 1 + _LEAST_GAIN and waits_less)
