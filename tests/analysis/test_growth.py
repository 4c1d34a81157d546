"""What a run costs on slices of several sizes."""

import dataclasses

import pytest

from effnetv2_jax.analysis.growth import draw_growth, growth_figures, slices_of
from effnetv2_jax.analysis.plan import Plan, PlannedProgram, planned_experiment
from effnetv2_jax.analysis.program_cost import ProgramCost
from effnetv2_jax.analysis.topology import parse_topology
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.train.config import TrainConfig


def plan_on(chips, cycles):
    """A plan of 30 steps at 64 px and 10 at 96 px, which take twice the cycles, and an evaluation."""
    slice_ = parse_topology(f"v5e-{chips}")
    experiment = planned_experiment(TrainConfig(data=DataConfig("digits"), batch_size=1024, steps=40), chips)
    cost = ProgramCost(1, 1.0, 1.0, cycles, {}, {}, 5, 1000, {}, 1.0)
    programs = (
        PlannedProgram("stage_1", 30, 64, 1024, 1.0, cost=cost),
        PlannedProgram("stage_2", 10, 96, 1024, 1.0, cost=dataclasses.replace(cost, estimated_cycles=2 * cycles)),
        PlannedProgram("evaluation", 1, 96, 1024, 1.0, cost=dataclasses.replace(cost, all_reduce_bytes=10**9)),
    )
    return Plan(experiment, slice_, programs)


def test_the_figures_are_averages_over_the_training_steps(tmp_path):
    one, eight = rows = growth_figures([plan_on(1, 80_000), plan_on(8, 20_000)])
    assert (one["chips"], one["batch_per_chip"], eight["batch_per_chip"]) == (1, 1024, 128)
    assert one["cycles_per_image"] == pytest.approx(50 * 80_000 / (40 * 1024))
    assert (one["all_reduce_bytes"], one["all_reduce_count"]) == (1000, 5)
    assert one["hours"] == pytest.approx((50 + 1) * 80_000 / parse_topology("v5e-1").chip.clock / 3600)
    assert eight["chip_hours"] == pytest.approx(2 * one["chip_hours"])
    assert [row["efficiency"] for row in rows] == pytest.approx([1, 0.5])
    draw_growth(tmp_path / "growth.png", "a run", rows)
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_numbers_of_chips_name_slices():
    assert [each.name for each in slices_of(parse_topology("v5e-8"), [16, 1, 16])] == ["v5e:1x1", "v5e:4x4"]
    assert [each.name for each in slices_of(parse_topology("v4-8"), [4, 16])] == ["v4:2x2x1", "v4:2x2x4"]
    with pytest.raises(ValueError, match="'v5e-3' is not a slice"):
        slices_of(parse_topology("v5e-8"), [3])
