"""Training runs: what they write, that they resume to the same bits, and what they refuse."""

import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from PIL import Image

from effnetv2_jax.cli.config_file import load_config
from effnetv2_jax.cli.main import main
from effnetv2_jax.data.dataset import open_source
from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train import loop
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints
from effnetv2_jax.train.evaluation import evaluate_run
from effnetv2_jax.train.recipe.step import prepare
from effnetv2_jax.train.report.metrics import read_metrics
from effnetv2_jax.train.run.divergence import Diverged
from effnetv2_jax.train.run.preemption import Stopped
from effnetv2_jax.train.trainer import train

ROOT = Path(__file__).parent.parent.parent
STAGE_BOUNDARY, STEPS = 6, 12


def smoke_config(*overrides):
    """Returns configs/smoke.py as the command line reads it, but keeps the compilation cache of the tests."""
    given = type("Arguments", (), {"config": str(ROOT / "configs/smoke.py"), "overrides": list(overrides)})
    return dataclasses.replace(load_config(given), compilation_cache="")


@pytest.fixture(scope="module", autouse=True)
def data_dir(tmp_path_factory):
    """The folder in which the tests prepare the digits."""
    folder = tmp_path_factory.getbasetemp().parent / "tensorflow_datasets"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder, the summary and the printed text of a run that was not stopped."""
    workdir, text = tmp_path_factory.mktemp("straight"), io.StringIO()
    with contextlib.redirect_stdout(text):
        summary = train(smoke_config(), str(workdir))
    return workdir, summary, text.getvalue()


def final_state(workdir):
    """Returns the leaves of the latest checkpoint by path."""
    checkpoints = Checkpoints(epath.Path(workdir) / CHECKPOINTS)
    return checkpoints.read().arrays


def rows(workdir):
    """Returns the rows of metrics without the values that depend on the clock."""
    return [
        {key: value for key, value in row.items() if key != "train/images_per_second"}
        for row in read_metrics(epath.Path(workdir))
    ]


def assert_same_run(workdir, other):
    """Checks that two runs have the same metrics at every step and the same final state, bit for bit."""
    expected, got = final_state(other), final_state(workdir)
    assert expected.keys() == got.keys()
    assert [path for path in expected if not np.array_equal(expected[path], got[path])] == []
    assert rows(workdir) == rows(other)


def saved_steps(workdir):
    return sorted(int(path.name) for path in (workdir / CHECKPOINTS).iterdir() if path.name.isdigit())


def stopping_at(monkeypatch, *steps):
    """Sends this process SIGTERM as soon as it has taken one of the steps."""
    after_step = loop.Loop._after_step

    def signalled(self, *arguments):
        if self.step in steps:
            signal.raise_signal(signal.SIGTERM)
        after_step(self, *arguments)

    monkeypatch.setattr(loop.Loop, "_after_step", signalled)


def test_a_run_reports_every_step_once_with_the_image_size_of_its_stage(straight):
    workdir, summary, text = straight
    steps = [row for row in rows(workdir) if "train/loss" in row]
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    assert [row["train/image_size"] for row in steps] == [17] * STAGE_BOUNDARY + [24] * (STEPS - STAGE_BOUNDARY)
    assert all(np.isfinite(row["train/loss"]) for row in steps)
    evaluated = [row for row in rows(workdir) if {"raw/top1", "averaged/top1"} & row.keys()]
    assert [row["step"] for row in evaluated] == [STEPS]  # a row that is cut has nothing of the evaluation
    assert "Progressive learning" in text
    assert f"step {STEPS}/{STEPS}" in text
    assert summary["steps"] == STEPS
    assert summary["examples"] == STEPS * 32


def test_a_run_compiles_each_stage_and_the_evaluation_exactly_once(straight):
    _, summary, _ = straight
    assert set(summary["programs"]) == {"stage_1", "stage_2", "evaluation"}
    for program in summary["programs"].values():
        assert program["lower_seconds"] > 0
        assert program["compile_seconds"] > 0


def test_evaluation_sees_every_test_image_once_with_raw_and_averaged_weights(straight, monkeypatch):
    workdir, summary, _ = straight
    assert summary["evaluated_images"] == 360  # 96 does not divide it
    for name in ("top1", "top5", "top1_averaged", "top5_averaged"):
        assert 0 <= summary[name] <= 100
    assert summary["top5"] >= summary["top1"]
    monkeypatch.chdir(workdir.parent)
    again = evaluate_run(smoke_config(), workdir.name)  # a relative path works too
    assert again["raw"]["top1"] == pytest.approx(summary["top1"], abs=1e-3)
    assert again["averaged"]["top1"] == pytest.approx(summary["top1_averaged"], abs=1e-3)


def test_evaluate_takes_its_config_from_the_run_folder(straight, capsys):
    workdir, summary, _ = straight
    assert main(["evaluate", "--workdir", str(workdir), "--json", "--config.evaluation.batch_size=120"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["raw"]["count"] == 360
    assert results["averaged"]["top1"] == pytest.approx(summary["top1_averaged"], abs=1e-3)
    assert main(["evaluate", "--workdir", str(workdir), "--config.evaluation.size=24"]) == 2
    assert "evaluation.image_size" in capsys.readouterr().err


def test_evaluate_refuses_a_folder_without_a_run_or_with_a_damaged_config(tmp_path, capsys):
    assert main(["evaluate", "--workdir", str(tmp_path)]) == 1
    assert f"{tmp_path} contains no run" in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"batch_size": 32, "colour": 1}')
    assert main(["evaluate", "--workdir", str(tmp_path)]) == 1
    assert "unknown field 'colour'" in capsys.readouterr().err


def test_a_run_without_averages_is_evaluated_with_its_raw_weights(tmp_path, capsys):
    config = smoke_config("--config.ema_decay=0", "--config.progressive.stages=1", "--config.steps=2")
    summary = train(config, str(tmp_path))
    assert summary["top1"] == summary["top1_averaged"]
    capsys.readouterr()
    assert main(["evaluate", "--workdir", str(tmp_path), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results.keys() == {"raw"}
    assert results["raw"]["top1"] == pytest.approx(summary["top1"], abs=1e-3)


def test_evaluation_accepts_a_config_that_training_would_refuse(straight, monkeypatch):
    """Training would refuse the config for four reasons."""
    workdir, summary, _ = straight
    opened = []

    def noted(*arguments, **named):
        opened.append(named["evaluation"])
        return open_source(*arguments, **named)

    for module in ("dataset", "pipeline"):
        monkeypatch.setattr(f"effnetv2_jax.data.{module}.open_source", noted)
    config = smoke_config(
        "--config.accumulation_steps=5", "--config.model.bn_group_size=24", "--config.data.parts=3",
        "--config.batch_size=33",
    )  # fmt: skip
    assert evaluate_run(config, str(workdir))["raw"]["top1"] == pytest.approx(summary["top1"], abs=1e-3)
    assert opened == [False, True, True]  # both splits for the dataset info, and one to read


def test_evaluation_refuses_a_checkpoint_of_another_network(straight):
    with pytest.raises(ValueError, match="another network"):
        evaluate_run(smoke_config("--config.model.width=0.5"), str(straight[0]))


def test_a_run_writes_pictures_events_config_and_summary(straight):
    workdir, summary, _ = straight
    for name in ("curves.png", "stage_1.png", "stage_2.png"):
        with Image.open(workdir / name) as picture:
            assert picture.size[0] > 600
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 50
    assert list((workdir / "tensorboard").glob("events*"))
    assert json.loads((workdir / "config.json").read_text())["progressive.image_size"] == [17, 24]
    assert json.loads((workdir / "summary.json").read_text()) == json.loads(json.dumps(summary))


def test_a_stopped_and_resumed_run_ends_with_the_same_bits(straight, tmp_path, monkeypatch):
    """The run is stopped within the first stage, at its end, and within the second."""
    for step in (4, STAGE_BOUNDARY, 9):
        with monkeypatch.context() as patch:
            stopping_at(patch, step)
            with pytest.raises(Stopped) as stopped:
                train(smoke_config(), str(tmp_path))
            assert stopped.value.step == step
    train(smoke_config(), str(tmp_path))
    assert_same_run(tmp_path, straight[0])


def test_a_finished_run_that_is_started_again_only_evaluates(straight, capsys):
    workdir, summary, _ = straight
    again = train(smoke_config(), str(workdir), profile="2:4")
    assert "warning: the run is already past the steps to profile, 2:4" in capsys.readouterr().out
    assert again["top1_averaged"] == summary["top1_averaged"]
    assert again["steps_of_this_process"] == 0
    assert set(again["programs"]) == {"evaluation"}


def test_the_folder_of_another_run_is_refused_and_not_changed(straight):
    workdir, _, _ = straight
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    with pytest.raises(ValueError, match=r"batch_size: 32 → 64; seed: 0 → 1"):
        train(smoke_config("--config.batch_size=64", "--config.seed=1"), str(workdir))
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_a_folder_with_files_of_a_run_but_no_config_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl .*config\.json"):
        train(smoke_config(), str(tmp_path))


def broken_variables(model):
    """Returns variables that give a loss of NaN."""
    variables = init_variables(model, 0)
    variables["params"]["classifier"]["bias"][0] = np.nan
    return variables


def test_a_state_that_is_not_finite_stops_the_run_without_saving(tmp_path):
    with pytest.raises(FloatingPointError, match=r"classifier/bias is not finite after step 0"):
        train(smoke_config(), str(tmp_path), broken_variables)
    assert saved_steps(tmp_path) == []


@pytest.mark.parametrize(
    ("base_rate", "message", "kept"),
    [
        ("1e10", "loss is nan at step 3 .* step 2 .*deleted.* 0, 1$", [0, 1]),
        ("1e39", "not finite after step 1.* steps: 0$", [0]),
    ],
)
def test_a_run_that_diverges_deletes_the_checkpoint_that_caused_it(tmp_path, base_rate, message, kept):
    """It saves after each step. A step with a far too large rate has a finite loss, but leaves a useless state."""
    config = smoke_config(
        f"--config.optimizer.schedule.base_rate={base_rate}",
        "--config.progressive.stages=1",
        "--config.progressive.image_size=(17,17)",
        "--config.checkpoint.every_epochs=0.001",
        "--config.log_every_steps=100",
    )
    for _ in range(2):  # the second run resumes from the checkpoint that is kept
        with pytest.raises(Diverged, match=message):
            train(config, str(tmp_path))
        assert saved_steps(tmp_path) == kept


def test_a_skipped_step_is_reported_and_a_resumed_run_still_ends_with_the_same_bits(tmp_path, monkeypatch, capsys):
    """Two steps in a row are bad; the run is stopped between them."""

    def prepare_badly(recipe, stage, batch, step):
        images, targets = prepare(recipe, stage, batch, step)
        return jnp.where((step == 3) | (step == 4), jnp.nan, images), targets

    monkeypatch.setattr("effnetv2_jax.train.recipe.step.prepare", prepare_badly)
    config = smoke_config(
        "--config.optimizer.max_bad_steps=2", "--config.log_every_steps=5", "--config.progressive.stages=1"
    )
    train(config, str(tmp_path / "straight"))
    assert "warning: 2 steps up to 5 are skipped, because the loss" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        stopping_at(patch, 4)
        with pytest.raises(Stopped):
            train(config, str(tmp_path / "stopped"))
    train(config, str(tmp_path / "stopped"))
    assert_same_run(tmp_path / "stopped", tmp_path / "straight")
    got = rows(tmp_path / "straight")
    assert [row["step"] for row in got if "train/skipped_steps" in row] == [4, 5]
    assert [row["step"] for row in got if "train/learning_rate" in row] == [5, 10, 12]
    assert [row["step"] for row in got if "train/loss" in row] == [10, 12]
    assert "NaN" not in (tmp_path / "straight/metrics.jsonl").read_text()


def test_more_bad_steps_in_a_row_than_allowed_stop_the_run(tmp_path, monkeypatch):
    def prepare_badly(recipe, stage, batch, step):
        images, targets = prepare(recipe, stage, batch, step)
        return jnp.where(step >= 4, jnp.nan, images), targets

    monkeypatch.setattr("effnetv2_jax.train.recipe.step.prepare", prepare_badly)
    config = smoke_config(
        "--config.optimizer.max_bad_steps=2", "--config.log_every_steps=100", "--config.progressive.stages=1"
    )
    with pytest.raises(Diverged, match=r"loss is nan at step 7, the last of 3 bad steps in a row.*: 0$"):
        train(config, str(tmp_path))
    assert saved_steps(tmp_path) == [0]


@pytest.mark.parametrize("summary", [True, False])
def test_a_run_survives_whatever_it_cannot_write_except_its_summary(tmp_path, capsys, summary):
    (tmp_path / "tensorboard").touch()
    for name in ("stage_1.png.tmp", "curves.png.tmp", *(() if summary else ("summary.json",))):
        (tmp_path / name).mkdir()
    config = smoke_config("--config.progressive.stages=1", "--config.steps=2")
    with contextlib.nullcontext() if summary else pytest.raises(OSError, match=r"summary\.json could not be written"):
        train(config, str(tmp_path))
    said = capsys.readouterr().out
    for name in ("tensorboard/.*", "stage_1.png", "curves.png"):
        assert len(re.findall(f"warning: .*/{name} could not be written: ", said)) == 1
    assert [row["step"] for row in rows(tmp_path) if "train/loss" in row] == [1, 2]


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["--config.platform=tpu"], RuntimeError, "'tpu'.* 'cpu'"),
        (["--config.platform=accelerator"], RuntimeError, "'accelerator'"),
        (["--config.platform=xpu"], ValueError, "platform=xpu: .*tpu.gpu.cpu"),
        (["--config.batch_size=33"], ValueError, "batch_size 33 .* 2 devices.* 32 or 34"),
        (["--config.evaluation.batch_size=1"], ValueError, "evaluation.batch_size 1 .* 2"),
        (["--config.model.variant=b9"], ValueError, "'b9'.* efficientnetv2-s"),
        (["--config.data.dataset=mnist"], ValueError, "'mnist'.* digits"),
        (["--config.progressive.preset=none"], ValueError, "preset=none: .*official.paper.custom"),
        (["--config.progressive.image_size=(16,24)"], ValueError, "at least 17 px.* 16"),
        (["--config.evaluation.image_size=16"], ValueError, "at least 17 px.* evaluation.image_size 16"),
        (
            ["--config.accumulation_steps=5"],
            ValueError,
            "accumulation_steps 5 .* batch_size 32",
        ),
        (["--config.ema_decay=1.0"], ValueError, "ema_decay .*less than 1"),
        (["--config.log_every_steps=0"], ValueError, "log_every_steps .* 1.* 0"),
        (["--config.epochs=nan"], ValueError, "epochs .* 0.* nan"),
        (["--config.evaluation.weights=best"], ValueError, "weights=best: .*averaged.raw"),
        (["--config.model.dtype=float16"], ValueError, "dtype=float16: .*float32.bfloat16"),
        (["--config.data.preprocessing=v3"], ValueError, "'v3'.* legacy"),
    ],
)
def test_invalid_configs_are_refused_before_anything_is_written(tmp_path, overrides, error, message):
    workdir = tmp_path / "run"
    with pytest.raises(error, match=message):
        train(smoke_config(*overrides), str(workdir))
    assert not workdir.exists()


@pytest.mark.parametrize("profile", ["5", "500:510"])
def test_invalid_steps_to_profile_are_refused_before_anything_is_written(tmp_path, profile):
    workdir = tmp_path / "run"
    with pytest.raises(ValueError, match="the steps to profile"):
        train(smoke_config(), str(workdir), profile=profile)
    assert not workdir.exists()


def test_ctrl_c_saves_the_run_and_says_how_to_resume_it(straight, tmp_path):
    """A real signal stops a real process. Resumed in this process, the run ends with the bits of the straight one."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    command = [
        sys.executable, "-m", "effnetv2_jax", "train", "--config", "configs/smoke.py", "--workdir", str(tmp_path),
        f"--config.compilation_cache={jax.config.jax_compilation_cache_dir}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "metrics.jsonl").exists() or not (tmp_path / "metrics.jsonl").read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.fail("the run ended before the signal reached it")
    assert process.returncode == 75, said
    assert "after saving; the same command resumes from there" in said
    train(smoke_config(), str(tmp_path))
    assert_same_run(tmp_path, straight[0])
