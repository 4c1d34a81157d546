"""`effnetv2 bench` and `effnetv2 data`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effnetv2_jax.cli.main import main

SMOKE = ("--config", "configs/smoke.py")


def test_bench_times_the_input_of_a_data_set_at_each_stage(capsys):
    assert main(["bench", "--input", "--images", "64", "--json", *SMOKE]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["image_size"] for row in rows] == [17, 24]
    for row in rows:
        assert row["input_images_per_second"] > 0
        assert 0 < row["host_cores"][0] < row["host_cores"][1]


def test_bench_compares_the_input_with_the_official_pipeline(capsys):
    assert main(["bench", "--input", "--generated", "--images", "32", *SMOKE, "--config.progressive.stages=1"]) == 0
    printed = capsys.readouterr().out
    assert "ratio" in printed
    assert "v5e-8 needs" in printed


def test_bench_times_the_training_step_with_its_microbatches(capsys):
    one_stage = ["--config.progressive.stages=1", "--config.model.width=0.25", "--config.accumulation_steps=2"]
    assert main(["bench", "--step", "--steps", "1", "--json", *SMOKE, *one_stage]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["accumulation_steps"] == 2
    assert row["step_images_per_second"] == pytest.approx(32 / row["step_seconds"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "2"], "--threads goes with --generated"),
        (["--generated", "--step"], "--generated is for the input pipeline"),
    ],
)
def test_bench_refuses_arguments_that_would_have_no_effect(arguments, message, capsys):
    assert main(["bench", *arguments, *SMOKE]) == 2
    assert message in capsys.readouterr().err


def test_bench_refuses_an_unknown_accelerator(capsys):
    assert main(["bench", "--accelerator", "v9-8", *SMOKE]) == 1
    assert "unknown TPU 'v9-8'; known: v3" in capsys.readouterr().err


def write_folder(root: Path, *, twin: bool):
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{k}.png")
    if twin:
        (root / "val" / "cat" / "0.png").write_bytes((root / "train" / "cat" / "0.png").read_bytes())
        (root / "train" / "dog" / "1.png").write_text("no picture")


@pytest.mark.parametrize(("twin", "code", "verdict"), [(False, 0, "sound"), (True, 1, "not sound")])
def test_data_check_reports_broken_and_shared_images(tmp_path, capsys, twin, code, verdict):
    write_folder(tmp_path, twin=twin)
    folder = ("--config.data.dataset=folder", f"--config.data.data_dir={tmp_path}")
    assert main(["data", "check", *SMOKE, *folder]) == code
    printed = capsys.readouterr().out
    assert printed.strip().splitlines()[-1] == verdict
    assert "20×30" in printed
    if twin:
        assert "broken training images: 1" in printed
        assert "dog/1.png" in printed
        assert "evaluation images that are also training images: 1" in printed


def test_data_preview_draws_data_that_is_read_in_parts(tmp_path):
    parts = ["--config.batch_size=64", "--config.data.parts=64", "--config.progressive.stages=1"]
    assert main(["data", "preview", "--out", str(tmp_path), *SMOKE, *parts]) == 0
    assert "stage_1.png" in [path.name for path in tmp_path.iterdir()]


def test_data_preview_draws_each_stage_and_the_operations(tmp_path, capsys):
    assert main(["data", "preview", "--out", str(tmp_path / "pictures"), *SMOKE]) == 0
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"stage_1.png", "stage_2.png", "operations.png"}
    for name in names:
        with Image.open(tmp_path / "pictures" / name) as picture:
            assert picture.size[0] > 600
    assert str(tmp_path / "pictures" / "operations.png") in capsys.readouterr().out
