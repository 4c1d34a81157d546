"""`effnetv2 bench` and `effnetv2 data`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data.images.test_decoding import BROKEN
from PIL import Image
from train.smoke import OPTION, write_tuning_of_smoke

from effnetv2_jax.cli.main import main

SMOKE = ("--config", "configs/smoke.py")


def test_bench_times_the_input_of_a_data_set_at_each_stage(capsys):
    assert main(["bench", "--input", "--images", "64", "--json", *SMOKE]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["image_size"] for row in rows] == [17, 24]
    for row in rows:
        assert row["input_images_per_second"] > 0
        assert 0 < row["host_cores"][0] < row["host_cores"][1]


def test_bench_compiles_the_step_as_a_tuning_says(tmp_path, capsys):
    options = {OPTION: "False", "xla_of_tomorrow": "1"}
    write_tuning_of_smoke(path := tmp_path / "tuning.json", devices=2, options=options)
    arguments = ["bench", "--step", "--steps=1", *SMOKE, f"--config.tuning={path}"]
    assert main([*arguments, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["accumulation_steps"], second["accumulation_steps"]) == (2, 1)
    assert (first["compiler_options"], second["compiler_options"]) == ({OPTION: "False"}, {})
    assert first["refused_options"] == ["xla_of_tomorrow"]
    path.write_text(path.read_text().replace('"cpu"', '"v5e"'))
    assert main(arguments) == 1
    assert f"{path} was made for v5e, and the run has cpu" in capsys.readouterr().err


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `effnetv2` in a process of its own, where TensorFlow has not been imported yet."""
    settings = {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    command = [sys.executable, "-m", "effnetv2_jax", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=inherited | settings)


def test_bench_compares_the_input_with_the_official_pipeline_and_says_what_it_times():
    arguments = ["--input", "--generated", "--images", "32", *SMOKE, "--config.progressive.stages=1"]
    done = run_command("bench", *arguments)
    assert done.returncode == 0
    assert "ratio" in done.stdout
    assert "v5e-8 needs" in done.stdout
    pipelines = ("this project's input", "the official input")
    building = [f"building {name}" for name in pipelines]
    timing = [f"timing 32 images of {name}, round {k} of 3" for k in (1, 2, 3) for name in pipelines]
    # These are all lines, so that TensorFlow has printed none.
    assert done.stderr.splitlines() == [f"stage 1 of 1 (24 px): {text}" for text in building + timing]


def test_bench_times_the_training_step_with_its_microbatches(capsys):
    one_stage = ["--config.progressive.stages=1", "--config.model.width=0.25", "--config.accumulation_steps=2"]
    assert main(["bench", "--step", "--steps", "1", "--json", *SMOKE, *one_stage]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["accumulation_steps"] == 2
    assert row["step_images_per_second"] == pytest.approx(32 / row["step_seconds"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "--step"], "--checkpoint goes without --input, --step and --generated"),
        (["--threads", "2"], "--threads goes with --generated"),
        (["--generated", "--step"], "--generated is for the input pipeline"),
    ],
)
def test_bench_refuses_arguments_that_would_have_no_effect(arguments, message, capsys):
    assert main(["bench", *arguments, *SMOKE]) == 2
    assert message in capsys.readouterr().err


def test_bench_times_checkpoints(capsys):
    assert main(["bench", "--checkpoint", "--steps", "1", "--json", *SMOKE]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["state_bytes"] > 100_000
    assert 0 < figures["blocked_seconds"] < figures["save_seconds"]
    assert figures["restore_seconds"] > 0


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


@pytest.mark.parametrize(("twin", "code", "verdict"), [(False, 0, "is sound"), (True, 1, "is not sound")])
def test_data_check_reports_broken_and_shared_images(tmp_path, capsys, twin, code, verdict):
    write_folder(tmp_path, twin=twin)
    folder = ("--config.data.dataset=folder", f"--config.data.data_dir={tmp_path}")
    assert main(["data", "check", *SMOKE, *folder]) == code
    printed = capsys.readouterr().out
    assert verdict in printed.strip().splitlines()[-1]
    assert "20×30" in printed
    if twin:
        assert "broken training images: 1" in printed
        assert "dog/1.png" in printed
        assert "evaluation images that are also training images: 1" in printed


def test_data_check_names_every_broken_image_and_the_libraries_print_nothing(tmp_path):
    write_folder(tmp_path, twin=False)
    for name, content in BROKEN.items():
        (tmp_path / "train" / "dog" / f"{name}.jpg").write_bytes(content)
    done = run_command("data", "check", *SMOKE, "--config.data.dataset=folder", f"--config.data.data_dir={tmp_path}")
    assert done.returncode == 1
    assert all(f"train/dog/{name}.jpg: " in done.stdout for name in BROKEN)
    assert done.stderr == ""


def test_a_folder_with_broken_images_is_refused_before_anything_is_drawn(tmp_path, capsys):
    write_folder(tmp_path / "images", twin=True)
    folder = ("--config.data.dataset=folder", f"--config.data.data_dir={tmp_path / 'images'}")
    assert main(["data", "preview", "--out", str(tmp_path / "pictures"), *SMOKE, *folder]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "effnetv2 data: 1 of 8 training images is broken (12.5 %), and data.max_broken 0.001 allows "
    )
    assert "train/dog/1.png is not an image" in line
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.data.train_split=train[:0]"], "training split 'train[:0]' contains no images"),
        (["--config.data.eval_split=test[9:3]"], "evaluation split 'test[9:3]' contains no images"),
        (
            ["--config.steps=0", "--config.epochs=0.01"],
            "0.01 epochs of 1,437 training images do not fill a batch of 32: reduce batch_size, or raise epochs or "
            "steps",
        ),
    ],
)
def test_data_that_fills_no_batch_is_refused_in_words(overrides, message, tmp_path, capsys):
    assert main(["data", "preview", "--out", str(tmp_path / "pictures"), *SMOKE, *overrides]) == 1
    assert capsys.readouterr().err.strip().endswith(message)


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
