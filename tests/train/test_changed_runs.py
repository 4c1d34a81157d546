"""Runs that are started again with another config, and a folder that two runs want."""

import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from train.run.processes import Children
from train.smoke import ROOT, smoke_config, write_tuning_of_smoke

from effnetv2_jax.cli.main import main
from effnetv2_jax.data.pipeline import train_batches
from effnetv2_jax.train.config import ABOVE_ZERO_FIELDS, FIELDS_ON_REQUEST, FREE_FIELDS, TrainConfig, flatten
from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.report.metrics import read_metrics
from effnetv2_jax.train.run_folder.owner import owned
from effnetv2_jax.train.trainer import train

SHORT = (
    "--config.progressive.stages=1", "--config.progressive.image_size=(17,17)", "--config.evaluation.image_size=17",
)  # fmt: skip

# Another value for each field that may change on request.
OTHER_VALUES = {
    "accumulation_steps": "2", "data.augmentation": "none", "data.cutout": "True", "data.flip": "True",
    "data.layers": "1", "data.min_crop_area": "0.5", "data.operations": "corrected", "data.scaled_decoding": "True",
    "data.size_relative": "True", "ema_decay": "0.5", "loss.kind": "sigmoid", "loss.label_smoothing": "0.2",
    "model.bn_group_size": "16", "model.bn_momentum": "0.5", "model.dtype": "bfloat16", "optimizer.clip_norm": "1.0",
    "optimizer.decay": "0.5", "optimizer.epsilon": "0.1", "optimizer.momentum": "0.5", "optimizer.weight_decay": "0.0",
    "optimizer.schedule.base_rate": "0.001", "optimizer.schedule.decay_epochs": "1.0",
    "optimizer.schedule.decay_rate": "0.5", "optimizer.schedule.end_rate": "0.0001",
    "optimizer.schedule.kind": "constant", "optimizer.schedule.reference_batch": "256",
    "optimizer.schedule.warmup_epochs": "0.0", "optimizer.schedule.warmup_steps": "0",
    "progressive.cutmix_alpha": "(0.1,0.1)", "progressive.drop_path_rate": "(0.1,0.1)",
    "progressive.dropout_rate": "(0.1,0.1)", "progressive.magnitude": "(1.0,1.0)",
    "progressive.mixup_alpha": "(0.1,0.1)", "tuning": "<file>", "optimizer.layer_decay": "0.8",
    "optimizer.head_rate": "3.0", "distillation.weight": "0.3", "distillation.temperature": "3.0",
    "model.fast_tpu_gradients": "True",
}  # fmt: skip


@pytest.fixture(scope="module")
def smoke():
    return make_experiment(smoke_config(), jax.device_count())


def test_the_fields_that_may_change_exist_and_are_either_free_or_on_request():
    assert flatten(TrainConfig()).keys() >= FREE_FIELDS | FIELDS_ON_REQUEST
    assert not FREE_FIELDS & FIELDS_ON_REQUEST
    assert ABOVE_ZERO_FIELDS <= FIELDS_ON_REQUEST
    assert OTHER_VALUES.keys() == FIELDS_ON_REQUEST


@pytest.mark.parametrize("optimizer", ["rmsprop", "sgd", "adamw"])
@pytest.mark.parametrize("field", sorted(FIELDS_ON_REQUEST))
def test_a_change_on_request_keeps_the_names_and_shapes_of_the_state(field, optimizer, smoke, tmp_path):
    if optimizer != "rmsprop" and not field.startswith("optimizer."):
        pytest.skip("it does not depend on the optimiser")
    name, value = f"--config.optimizer.name={optimizer}", OTHER_VALUES[field]
    if field == "tuning":
        write_tuning_of_smoke(value := tmp_path / "tuning.json", devices=jax.device_count())
    before, after = (
        make_experiment(smoke_config(*overrides), jax.device_count(), info=smoke.dataset_info)
        for overrides in ([name], [name, f"--config.{field}={value}"])
    )
    assert after.abstract_state() == before.abstract_state()


@pytest.mark.parametrize("field", sorted(ABOVE_ZERO_FIELDS))
def test_a_change_to_zero_that_is_not_allowed_would_change_the_state(field, smoke):
    before, after = (
        make_experiment(smoke_config("--config.optimizer.name=sgd", *zero), jax.device_count(), info=smoke.dataset_info)
        for zero in ([], [f"--config.{field}=0.0"])
    )
    assert after.abstract_state() != before.abstract_state()


@pytest.mark.parametrize("field", sorted(name for name in FIELDS_ON_REQUEST if name.startswith("data.")))
def test_a_change_on_request_keeps_the_order_of_the_images(field, smoke):
    def labels(config):
        batches = train_batches(config, image_size=17, magnitude=1.0, batch_size=500, start_step=1, seed=0)
        return [next(batches)["label"] for _ in range(2)]

    changed = smoke_config(f"--config.{field}={OTHER_VALUES[field]}")
    assert changed != smoke.config
    np.testing.assert_array_equal(labels(changed.data), labels(smoke.config.data))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of two steps."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    train(smoke_config(*SHORT, "--config.steps=2"), str(workdir))
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(finished, tmp_path / "run")


def test_a_finished_run_is_extended_with_another_learning_rate_and_clipping(workdir, capsys):
    changes = [
        *SHORT, "--config.steps=4", "--config.optimizer.schedule.base_rate=0.0001", "--config.optimizer.clip_norm=1.0",
        "--config.optimizer.schedule.kind=constant",
    ]  # fmt: skip
    fields = ["optimizer.clip_norm", "optimizer.schedule.base_rate", "optimizer.schedule.kind"]
    with pytest.raises(ValueError, match=rf"--accept-changes {re.escape(','.join(fields))} changes the run"):
        train(smoke_config(*changes), str(workdir))
    capsys.readouterr()
    summary = train(smoke_config(*changes), str(workdir), accepted_changes=fields)
    assert (summary["steps"], summary["steps_of_this_process"]) == (4, 2)
    said = capsys.readouterr().out.replace("\n", " ")
    for text in ("steps: 2 → 4", "optimizer.clip_norm: 0.0 → 1.0", "4 steps instead of 2", "resuming from step 2"):
        assert text in said
    rates = {
        row["step"]: row["train/learning_rate"] for row in read_metrics(epath.Path(workdir)) if "train/loss" in row
    }
    assert list(rates) == [1, 2, 3, 4]
    assert rates[3] == rates[4] == pytest.approx(1e-4)
    assert rates[2] == pytest.approx(1e-3)  # the first of two steps of warm-up to 0.002
    config = json.loads((workdir / "config.json").read_text())
    assert (config["steps"], config["optimizer.clip_norm"]) == (4, 1.0)
    first, second = json.loads((workdir / "starts.json").read_text())
    assert (first["step"], first["changes"]) == (0, {})
    assert second["step"] == 2
    assert second["changes"] == {
        "optimizer.clip_norm": [0.0, 1.0], "optimizer.schedule.base_rate": [0.002, 0.0001],
        "optimizer.schedule.kind": ["cosine", "constant"], "steps": [2, 4],
    }  # fmt: skip


def test_a_run_that_is_longer_than_its_config_is_refused(workdir):
    with pytest.raises(ValueError, match="2 steps, more than the 1 that epochs, steps and min_steps give now"):
        train(smoke_config(*SHORT, "--config.steps=1"), str(workdir))


def test_the_command_accepts_changes_by_name(workdir, capsys):
    arguments = ["train", "--config", str(ROOT / "configs/smoke.py"), "--workdir", str(workdir), *SHORT]
    arguments += ["--config.steps=2", f"--config.compilation_cache={jax.config.jax_compilation_cache_dir}"]
    for accepted, message in (
        ("loss.label_smothing", "unknown field 'loss.label_smothing'; did you mean loss.label_smoothing?"),
        ("batch_size", "batch_size cannot change within a run"),
        (
            "ema_decay",
            "ema_decay has not changed since the last start; fields whose changes it would",
        ),
    ):
        assert main([*arguments, "--config.loss.label_smoothing=0.2", "--accept-changes", accepted]) == 1
        assert message in capsys.readouterr().err
    assert main([*arguments, "--config.loss.label_smoothing=0.2", "--accept-changes=loss.label_smoothing"]) == 0
    assert "loss.label_smoothing: 0.1 → 0.2" in capsys.readouterr().out.replace("\n", " ")


def test_a_run_keeps_the_parts_of_its_first_start(workdir):
    following = smoke_config("--config.data.parts=0")
    assert [make_experiment(following, 4, hosts).config.data.parts for hosts in (1, 4)] == [1, 4]
    config = json.loads((workdir / "config.json").read_text()) | {"data.parts": 2}  # as if it had started on two hosts
    (workdir / "config.json").write_text(json.dumps(config))
    summary = train(smoke_config(*SHORT, "--config.steps=2", "--config.data.parts=0"), str(workdir))
    assert summary["steps_of_this_process"] == 0
    assert json.loads((workdir / "config.json").read_text())["data.parts"] == 2
    with pytest.raises(ValueError, match=r"data\.parts: 2 → 1"):
        train(smoke_config(*SHORT, "--config.steps=2", "--config.data.parts=1"), str(workdir))


def test_two_processes_are_refused_together_by_the_owner_of_the_folder(workdir):
    before = sorted((path, path.stat().st_mtime_ns) for path in workdir.rglob("*"))
    with (
        owned(epath.Path(workdir)),
        Children("train", "--config=configs/smoke.py", *SHORT, "--config.steps=2", f"--workdir={workdir}") as children,
    ):
        ended = children.ended()
    refusal = f"effnetv2 train: {workdir} is in use by process {os.getpid()} on "
    for code, _, said in ended:
        assert code == 1
        assert len([line for line in said.splitlines() if line.startswith(refusal)]) == 1, said
        assert "Traceback" not in said
    changed = {path.name for path, time in set(before) ^ {(p, p.stat().st_mtime_ns) for p in workdir.rglob("*")}}
    assert changed == {"owner.json"}  # written by this process
