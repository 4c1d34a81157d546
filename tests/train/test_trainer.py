"""Training runs: what they write, and that they resume to the same bits."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image
from train.smoke import ROOT, assert_same_run, rows, saved_steps, smoke_config, stopping_at

from effnetv2_jax.cli.main import main
from effnetv2_jax.data.dataset import open_source
from effnetv2_jax.train.evaluation import evaluate_run
from effnetv2_jax.train.run.preemption import Stopped
from effnetv2_jax.train.trainer import train

STAGE_BOUNDARY, STEPS = 6, 12


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder, the summary and the printed text of a run that was not stopped."""
    workdir, text = tmp_path_factory.mktemp("straight"), io.StringIO()
    with contextlib.redirect_stdout(text):
        summary = train(smoke_config(), str(workdir))
    return workdir, summary, text.getvalue()


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


def test_a_judge_sees_each_evaluation_and_may_end_the_run(tmp_path):
    seen = []

    def judge(step, results):
        seen.append((step, results["averaged"]["top1"]))
        if len(seen) == 2:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        train(smoke_config("--config.evaluation.every_epochs=0.08"), str(tmp_path), judge=judge)
    assert seen == [(row["step"], row["averaged/top1"]) for row in rows(tmp_path) if "averaged/top1" in row]
    assert [step for step, _ in seen] == [4, 8]
    assert saved_steps(tmp_path)[-1] == 8
