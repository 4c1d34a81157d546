"""`effnetv2 plan`, with the real TPU compiler and a small network that compiles in seconds."""

import json

import pytest

from effnetv2_jax.analysis.plan import Plan, PlannedProgram
from effnetv2_jax.analysis.program_cost import ProgramCost
from effnetv2_jax.analysis.topology import parse_topology
from effnetv2_jax.cli.main import main
from effnetv2_jax.cli.tables.plan import comparison_table
from effnetv2_jax.train.report.console import make_console

TINY = (
    "--config", "configs/digits.py", "--config.progressive.stages=1", "--config.model.width=0.25",
    "--config.model.depth=0.1",
)  # fmt: skip
KEYS = {
    "image_size", "batch_per_chip", "hbm_bytes", "flops", "estimated_cycles", "step_seconds",
    "images_per_second_per_chip", "mxu_fraction", "all_reduce_count", "all_reduce_bytes", "compile_seconds",
}  # fmt: skip


def test_a_plan_without_a_slice_does_not_open_the_data(capsys):
    assert main(["plan", "--config", "configs/imagenet1k.py:efficientnetv2-s", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["image_size"] for row in rows] == [171, 214, 257, 300, 384]
    assert [row["program"] for row in rows] == ["stage_1", "stage_2", "stage_3", "stage_4", "evaluation"]
    assert rows[-1]["flops_per_image"] == pytest.approx(2 * 8.366e9, rel=1e-3)
    assert sum(row["steps"] for row in rows[:-1]) == 350 * int(1_281_167 * 0.98) // 4096
    # An evaluation every 3,065 of 107,284 steps and at the end, each of 49 batches, with raw and averaged weights.
    assert rows[-1]["steps"] == 36 * 2 * 49


def test_the_plan_of_a_run_without_averages_evaluates_only_raw_weights(capsys):
    assert main(["plan", "--config", "configs/imagenet1k.py:efficientnetv2-s", "--json", "--config.ema_decay=0"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["steps"] == 36 * 49


def test_the_plan_of_a_config_is_printed_as_tables(capsys):
    assert main(["plan", "--config", "configs/imagenet1k.py:efficientnetv2-s"]) == 0
    printed = capsys.readouterr().out
    assert "350 epochs of imagenet2012" in printed
    assert "GFLOP/image" in printed


def test_a_plan_for_a_slice_is_compiled_once_and_then_read_from_the_cache(tmp_path, capsys):
    cache, picture = tmp_path / "plans", tmp_path / "plan.png"
    arguments = ["plan", *TINY, "--topology", "v5e-8", "--cache", str(cache)]
    more = ["--picture", str(picture), "--price", "1.2", "--layers", "3"]
    assert main([*arguments, "--json", *more]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0].keys() >= KEYS
    step, evaluation = rows
    assert step["batch_per_chip"] == 64 // 8
    assert step["all_reduce_count"] > evaluation["all_reduce_count"] >= 0
    assert 0 < step["hbm_bytes"] < 1e9
    assert 0 < step["mxu_fraction"] < 1
    assert step["step_seconds"] == pytest.approx(step["estimated_cycles"] / 1.503e9, rel=1e-3)
    assert picture.stat().st_size > 10_000
    assert step["plan"] == "digits.py v5e:2x4"
    assert step["chip_hours"] == pytest.approx(8 * step["steps"] * step["step_seconds"] / 3600)
    assert step["price"] == pytest.approx(1.2 * step["chip_hours"])
    assert len(step["cycles_by_layer"]) == 3
    files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(files) == 2
    assert main([*arguments, "--layers", "5", "--price", "1.2"]) == 0
    printed = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == files
    assert "at 1.2 a chip-hour" in printed
    assert "block_" in printed


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("--topology", "v5e-7", *TINY), "'v5e-7' is not a slice", 1),
        (("--topology", "v7-8", *TINY), "unknown TPU 'v7-8'; known: v3-32", 1),
        ((), "give either --config or --variant", 2),
        (("--growth", "1,8", *TINY), "need --topology", 2),
        (("--growth", "1,x", "--topology", "v5e-8", *TINY), "--growth must be numbers of chips, as in 1,8,64; got", 2),
        (("--growth", "1,3", "--topology", "v5e-8", *TINY), "'v5e-3' is not a slice", 1),
        (("--growth", "1", "--layers", "--topology", "v5e-8", *TINY), "--growth goes without --compare and", 2),
        (("--compare", "v4-8", *TINY), "need --topology", 2),
        (("--dtype", "float32", *TINY), "--dtype go with --variant", 2),
        (("--variant", "efficientnetv2-b0", "--sizes", "12a"), "--sizes must be pixels", 2),
        (("--topology", "v5e-256", *TINY), "batch_size 64 does not divide over 256 devices", 1),
    ],
)
def test_bad_arguments_are_refused(arguments, message, code, capsys):
    assert main(["plan", *arguments]) == code
    assert message in capsys.readouterr().err


def plan_of(cycles: dict[str, int]) -> Plan:
    """Returns a plan for one v5e chip: program → millions of cycles for a batch of 10 images."""
    programs = [
        PlannedProgram(name, 1, 32, 10, 1e9, cost=ProgramCost(1, 1.0, 1.0, count * 10**6, {}, {}, 0, 0, {}, 1.0))
        for name, count in cycles.items()
    ]
    return Plan(None, parse_topology("v5e-1"), tuple(programs))


def test_plans_of_different_stages_are_compared_program_by_program(capsys):
    plans = {
        "one": plan_of({"stage_1": 15, "stage_2": 30, "evaluation": 3}),
        "other": plan_of({"stage_1": 30, "evaluation": 6}),
    }
    make_console().print(comparison_table(plans))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["stage_1", "1,002", "501", "0.50"] in lines
    assert ["stage_2", "501", "–", "–"] in lines
    assert ["evaluation", "5,010", "2,505", "0.50"] in lines


def test_without_the_tpu_compiler_the_error_names_the_package_to_install(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["plan", *TINY, "--topology", "v5e-8"]) == 1
    assert "pip install 'effnetv2_jax[aot]'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_planned_on_slices_of_several_sizes(tmp_path, capsys):
    arguments = ["plan", *TINY, "--topology", "v5e-8", "--growth", "1,4", "--cache", str(tmp_path / "plans")]
    assert main([*arguments, "--json", "--price", "2", "--picture", str(tmp_path / "growth.png")]) == 0
    one, four = json.loads(capsys.readouterr().out)
    assert (one["topology"], four["topology"]) == ("v5e:1x1", "v5e:2x2")
    assert one["all_reduce_count"] == 0 < four["all_reduce_count"]
    assert four["price"] == pytest.approx(2 * 4 * four["hours"])
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "k cycles an image" in printed
    assert "hbm %" not in printed


def test_a_variant_is_planned_at_its_own_size_unless_told(capsys):
    assert main(["plan", "--variant", "efficientnetv2-b0", "--json"]) == 0
    training, evaluation = json.loads(capsys.readouterr().out)
    assert training["image_size"] == evaluation["image_size"] == 192
