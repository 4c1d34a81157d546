"""Single rows of a network tell which compiler options are worth a whole program."""

import dataclasses
import math
import types

import pytest

from effnetv2_jax.analysis.plan import planned_experiment
from effnetv2_jax.analysis.program_cost import ProgramCost
from effnetv2_jax.analysis.single_step import side_of_row
from effnetv2_jax.analysis.topology import make_mesh, parse_topology
from effnetv2_jax.analysis.tuning import single_rows
from effnetv2_jax.analysis.tuning.compiler_options import CompilerOption
from effnetv2_jax.analysis.tuning.single_rows import options_worth_trying, row_alone
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.train.config import ModelConfig, TrainConfig
from effnetv2_jax.train.devices.memory import UnknownOptionError
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig

S, B3 = VARIANTS["efficientnetv2-s"], VARIANTS["efficientnetv2-b3"]
OPTIONS = (
    CompilerOption("slow", ("on",), "", ""),
    CompilerOption("new", ("on",), "", ""),
    CompilerOption("good", ("on",), "", ""),
    CompilerOption("fast", ("1", "2", "3"), "", ""),
)


@pytest.mark.parametrize("spec", [S, B3], ids=lambda spec: spec.name)
def test_a_row_alone_has_two_of_its_later_blocks(spec):
    for row in range(len(spec.rows)):
        later = {
            dataclasses.replace(block, row=0) for block in spec.blocks() if block.row == row and block.has_residual
        }
        assert set(row_alone(spec, row).blocks()) >= later
        assert len(list(row_alone(spec, row).blocks())) == 2


def test_the_side_of_a_row_follows_the_strides():
    assert [side_of_row(S, 300, row) for row in range(6)] == [150, 75, 38, 19, 19, 10]


@pytest.fixture
def search(monkeypatch):
    """Ranks options by a compiler that takes as many cycles for every row, times the ratio of each option."""
    config = TrainConfig(
        model=ModelConfig("efficientnetv2-b0", width=0.25, depth=0.1, bn_group_size=64),
        data=DataConfig("digits"),
        progressive=ProgressiveConfig(preset="custom", stages=1, image_size=(64,)),
        batch_size=256,
        steps=4,
    )
    experiment, slice_, seen, said = planned_experiment(config, 1), parse_topology("v5e:1x1"), [], []
    ratios = {"slow on": 1.1, "good on": 0.95, "fast 1": 0.9, "fast 2": 0.8, "fast 3": 0.999}

    def cost(program, *_):
        seen.append(program.arguments[1]["image"].shape[:2])
        if "new" in program.compiler_options:
            raise UnknownOptionError("new")
        cycles = 10_000 * math.prod(ratios[f"{name} {value}"] for name, value in program.compiler_options.items())
        return ProgramCost(1, 1.0, 1.0, 50_000, {}, {"block_0/fused": int(cycles), "stem": 9}, 0, 0, {}, 1.0)

    monkeypatch.setattr(single_rows, "program_cost", cost)

    def rank(is_over=lambda: False):
        (stage,), mesh = experiment.stages, make_mesh(slice_)
        return options_worth_trying(experiment, stage, 2, slice_, mesh, OPTIONS, "", said.append, is_over)

    return types.SimpleNamespace(rank=rank, seen=seen, said=said)


def test_options_that_save_cycles_in_rows_are_worth_trying_with_their_two_best_values(search):
    ranked = search.rank()
    assert [(option.name, option.values) for option in ranked] == [("fast", ("2", "1")), ("good", ("on",))]
    assert {batch for batch, _ in search.seen} == {128}
    assert {size for _, size in search.seen} == {64, 32, 16, 8, 4}
    assert any("good=on takes 0.950 of it" in line for line in search.said)


def test_without_time_every_option_stays(search):
    assert {option.name for option in search.rank(lambda: True)} == {option.name for option in OPTIONS}
    assert search.seen == []
