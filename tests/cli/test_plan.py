"""`effnetv2 plan`: with the real TPU compiler, at a size that takes seconds."""

import json

import pytest

from effnetv2_jax.analysis.plan import Plan, Row
from effnetv2_jax.analysis.program_cost import ProgramCost
from effnetv2_jax.analysis.topology import parse_topology
from effnetv2_jax.cli.commands.plan import _comparison
from effnetv2_jax.cli.main import main
from effnetv2_jax.train.report.progress import make_console

TINY = (
    "--config", "configs/digits.py", "--config.progressive.stages=1", "--config.model.width=0.25",
    "--config.model.depth=0.1",
)  # fmt: skip
KEYS = {
    "image_size", "batch_per_chip", "hbm_bytes", "flops", "estimated_cycles", "step_seconds",
    "images_per_second_per_chip", "mxu_fraction", "all_reduce_count", "all_reduce_bytes", "compile_seconds",
}  # fmt: skip


def test_without_a_slice_a_plan_needs_no_data(capsys):
    assert main(["plan", "--config", "configs/imagenet1k.py:efficientnetv2-s", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["image_size"] for row in rows] == [171, 214, 257, 300, 384]
    assert [row["program"] for row in rows] == ["stage_1", "stage_2", "stage_3", "stage_4", "evaluation"]
    assert rows[-1]["flops_per_image"] == pytest.approx(2 * 8.366e9, rel=1e-3)
    assert sum(row["steps"] for row in rows[:-1]) == 350 * int(1_281_167 * 0.98) // 4096
    # 107,284 steps: each 3,065 and at the end 49 batches of 1,024 images, with raw and with averaged weights.
    assert rows[-1]["steps"] == 36 * 2 * 49


def test_a_run_without_averages_evaluates_one_set_of_weights(capsys):
    assert main(["plan", "--config", "configs/imagenet1k.py:efficientnetv2-s", "--json", "--config.ema_decay=0"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["steps"] == 36 * 49


def test_the_table_says_what_the_stages_are(capsys):
    assert main(["plan", "--config", "configs/imagenet1k.py:efficientnetv2-s"]) == 0
    printed = capsys.readouterr().out
    assert "350 epochs of imagenet2012" in printed
    assert "GFLOP/image" in printed


def test_a_slice_s_plan_comes_from_its_compiler_and_the_second_time_from_the_cache(tmp_path, capsys):
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
        (("--topology", "v5e-7", *TINY), "no slice 'v5e-7'", 1),
        (("--topology", "v7-8", *TINY), "unknown TPU 'v7-8'; known: v3-32", 1),
        ((), "give either --config or --variant", 2),
        (("--compare", "v4-8", *TINY), "need --topology", 2),
        (("--dtype", "float32", *TINY), "--dtype go with --variant", 2),
        (("--variant", "efficientnetv2-b0", "--sizes", "12a"), "--sizes must be pixels", 2),
        (("--topology", "v5e-256", *TINY), "batch_size 64 does not divide over 256 devices", 1),
    ],
)
def test_what_can_t_be_planned_is_refused(arguments, message, code, capsys):
    assert main(["plan", *arguments]) == code
    assert message in capsys.readouterr().err


def plan_of(cycles: dict[str, int]) -> Plan:
    """A plan on one v5e whose programs take so many million cycles for 10 images."""
    rows = [
        Row(name, 1, 32, 10, 1e9, cost=ProgramCost(1, 1.0, 1.0, count * 10**6, {}, {}, 0, 0, {}, 1.0))
        for name, count in cycles.items()
    ]
    return Plan(None, parse_topology("v5e-1"), tuple(rows))


def test_plans_of_different_stages_are_compared_program_by_program(capsys):
    plans = {
        "one": plan_of({"stage_1": 15, "stage_2": 30, "evaluation": 3}),
        "other": plan_of({"stage_1": 30, "evaluation": 6}),
    }
    make_console().print(_comparison(plans))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["stage_1", "1,002", "501", "0.50"] in lines
    assert ["stage_2", "501", "–", "–"] in lines
    assert ["evaluation", "5,010", "2,505", "0.50"] in lines


def test_without_the_compiler_the_command_to_get_it_is_said(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["plan", *TINY, "--topology", "v5e-8"]) == 1
    assert "pip install 'effnetv2_jax[aot]'" in capsys.readouterr().err
