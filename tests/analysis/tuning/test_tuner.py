"""The search for fast programs: it keeps what saves cycles, tries nothing twice, and ends in time."""

import dataclasses
import threading
import types

import pytest

from effnetv2_jax.analysis.program_cost import ProgramCost
from effnetv2_jax.analysis.topology import parse_topology
from effnetv2_jax.analysis.tuning import search, tuner
from effnetv2_jax.analysis.tuning.compiler_options import CompilerOption
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.train.config import EvaluationConfig, ModelConfig, TrainConfig
from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.devices.memory import DeviceMemoryError, UnknownOptionError
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig

OPTIONS = tuple(
    CompilerOption(name, values, "", "") for name, values in (("fast", ("1", "2")), ("new", ("on",)), ("slow", ("on",)))
)


def experiment_of(batch_size=1024, **fields):
    config = TrainConfig(
        model=ModelConfig("efficientnetv2-b0", width=0.25, depth=0.1, bn_group_size=64),
        data=DataConfig("digits"),
        progressive=ProgressiveConfig(preset="custom", stages=2, image_size=(32, 40)),
        evaluation=EvaluationConfig(batch_size=64),
        batch_size=batch_size,
        steps=10,
        **fields,
    )
    return make_experiment(config, 1)


@pytest.fixture
def compiled(monkeypatch):
    """Replaces the compiler: 128 images in a microbatch and fast=2 are best, and more than `most` images do not fit."""
    compiler, lock = types.SimpleNamespace(tried=[], most=256), threading.Lock()
    train_program = search.train_program

    def counted(experiment, stage, mesh, microbatches):
        program = train_program(experiment, stage, mesh, microbatches)
        settings = (microbatches, experiment.settings(stage.name).remat)
        return dataclasses.replace(program, options={"settings": settings})

    def cost(program, *_):
        options, (batch, size) = program.compiler_options, program.arguments[1]["image"].shape[:2]
        microbatches, remat = program.options.get("settings", (0, ()))
        with lock:
            compiler.tried.append((size, microbatches, remat, *options.items()))
        if "new" in options:
            raise UnknownOptionError("new")
        if microbatches and batch // microbatches > compiler.most and not remat:
            raise DeviceMemoryError(2**32, 2**31)
        far = abs(batch // microbatches - 128) * 10 + 200 * len(remat) if microbatches else 0
        cycles = 1000 * size + far - 100 * int(options.get("fast", 0)) + 50 * ("slow" in options)
        waiting = 1000 - 600 * ("overlap" in options)
        return ProgramCost(10**6, 1.0, 1.0, cycles, {}, {}, 1, 1000, {}, 1.0, waiting, f"digest of {size}")

    monkeypatch.setattr(search, "train_program", counted)
    monkeypatch.setattr(search, "program_cost", cost)
    monkeypatch.setattr(search, "options_worth_trying", lambda *arguments: list(arguments[5]))
    return compiler


def test_the_search_finds_the_best_settings_and_tries_none_twice(compiled):
    said = []
    run, slice_ = experiment_of(accumulation_steps="4"), parse_topology("v5e:1x1")
    found = tuner.tune(run, slice_, report=said.append, options=OPTIONS)
    for name in ("stage_1", "stage_2"):
        settings = found.tuning.settings[name]
        assert (settings.microbatches, dict(settings.compiler_options), settings.remat) == (8, {"fast": "2"}, ())
    assert dict(found.tuning.settings["evaluation"].compiler_options) == {"fast": "2"}
    assert found.complete
    assert found.before.programs[0].cost.estimated_cycles == 32_000 + 1280
    assert found.after.programs[0].cost.estimated_cycles == 32_000 - 200
    assert found.after.hours < found.before.hours
    assert len(said) == len(set(compiled.tried)) == len(compiled.tried)
    assert max(microbatches for _, microbatches, *_ in compiled.tried) == 16  # BatchNorm's groups stay whole
    assert {remat for _, _, remat, *_ in compiled.tried} == {()}  # 128 images fit without
    assert sum("the compiler has no option 'new'" in line for line in said) == 1
    assert any("does not fit: 4 of 2 GiB" in line for line in said)


@pytest.mark.usefixtures("compiled")
def test_the_slowest_stage_goes_ahead():
    said = []
    tuner.tune(experiment_of(accumulation_steps="4"), parse_topology("v5e:1x1"), report=said.append, options=OPTIONS)
    tried = [line.partition(":")[0] for line in said if "skipped" not in line]
    # First each program as it is; then stage_2 tries the values of an option, and the others what has helped it.
    assert sorted(tried[:3]) == ["evaluation, 1 microbatch", "stage_1, 4 microbatches", "stage_2, 4 microbatches"]
    assert sorted(tried[3:5]) == [f"stage_2, 4 microbatches, fast={value}" for value in (1, 2)]
    assert sorted(tried[5:7]) == ["evaluation, 1 microbatch, fast=2", "stage_1, 4 microbatches, fast=2"]
    assert "stage_1, 8 microbatches, fast=1" in tried  # in the end, every program tries all changes


def test_a_search_that_is_out_of_time_keeps_what_it_has(compiled):
    found = tuner.tune(experiment_of(accumulation_steps="4"), parse_topology("v5e:1x1"), seconds=1e-9, options=OPTIONS)
    assert not found.complete
    assert len(compiled.tried) == 3  # the programs as they are
    assert found.after.hours == found.before.hours


def test_rows_are_computed_again_if_that_lets_larger_microbatches_fit(compiled):
    compiled.most = 64
    found = tuner.tune(experiment_of(accumulation_steps="16"), parse_topology("v5e:1x1"), options=OPTIONS)
    settings = found.tuning.settings["stage_1"]
    assert (settings.microbatches, settings.remat) == (8, (0,))


@pytest.mark.usefixtures("compiled")
def test_a_program_that_fits_with_no_settings_is_an_error():
    with pytest.raises(DeviceMemoryError, match="needs 4 GiB on each device, which has 2 GiB"):
        tuner.tune(experiment_of(accumulation_steps="2"), parse_topology("v5e:1x1"), options=OPTIONS)


@pytest.mark.usefixtures("compiled")
def test_options_for_communication_are_kept_if_the_program_waits_for_less():
    both = tuple(CompilerOption(name, ("on",), "", "") for name in ("new", "overlap"))
    experiment = make_experiment(experiment_of(accumulation_steps="8").config, 8)
    found = tuner.tune(experiment, parse_topology("v5e-8"), options=(), communication=both)
    options = [dict(settings.compiler_options) for settings in found.tuning.settings.values()]
    assert options == [{"overlap": "on"}] * 3  # without the option that the compiler does not know
    assert found.tuning.topology == "v5e:2x4"
    assert found.tuning.digests["stage_1"] == "digest of 32"


@pytest.mark.usefixtures("compiled")
def test_slower_options_for_communication_are_not_kept():
    slow = (CompilerOption("overlap", ("on",), "", ""), CompilerOption("slow", ("on",), "", ""))
    experiment = make_experiment(experiment_of(accumulation_steps="8").config, 8)
    found = tuner.tune(experiment, parse_topology("v5e-8"), options=(), communication=slow)
    assert all(not settings.compiler_options for settings in found.tuning.settings.values())
