"""Weights of any framework in training and evaluation."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from fake_bucket import use_as_bucket
from golden import reference

from effnetv2_jax import VARIANTS, create_model, save_variables
from effnetv2_jax.cli.initial_weights import initial_variables
from effnetv2_jax.cli.main import main
from effnetv2_jax.cli.options.config_file import load_config
from effnetv2_jax.convert.weights import default_provenance
from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train.recipe import parameter_paths

ROOT = Path(__file__).parent.parent.parent
SPEC = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)


def config_of(*overrides):
    given = type("Arguments", (), {"config": str(ROOT / "configs/smoke.py"), "overrides": list(overrides)})
    return load_config(given)


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory):
    """A timm file of the network of the smoke config with ten classes, and its variables."""
    variables = init_variables(create_model(SPEC, num_classes=10), 7)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_variables(path, variables, SPEC, target="timm")
    return path, variables


@pytest.mark.parametrize("overrides", [["--config.init_framework=timm"], []])
def test_a_run_starts_from_a_file_and_keeps_its_head(timm_file, capsys, overrides):
    path, variables = timm_file
    config = config_of(f"--config.init_from={path}", *overrides)
    got = initial_variables(config)(create_model(SPEC, num_classes=10))
    assert reference.equal(got, variables)
    assert f"{len(parameter_paths.flatten(variables))} tensors come from {path}" in capsys.readouterr().out


def test_a_run_with_other_classes_gets_a_new_head_and_says_so(timm_file, capsys):
    path, variables = timm_file
    config = config_of(f"--config.init_from={path}", "--config.init_framework=timm")
    got = parameter_paths.flatten(initial_variables(config)(create_model(SPEC, num_classes=4)))
    assert got["params/classifier/kernel"].shape == (SPEC.head_width, 4)
    for name, value in parameter_paths.flatten(variables).items():
        assert "classifier" in name or np.array_equal(got[name], value)
    assert "new: params/classifier/kernel, params/classifier/bias" in capsys.readouterr().out


def test_a_run_starts_from_a_file_without_a_head(tmp_path):
    """Such files have no header; the model's head is fresh, and everything else is loaded."""
    variables = init_variables(create_model(SPEC, num_classes=0), 7)
    save_variables(tmp_path / "w.safetensors", variables, SPEC, target="timm")
    safetensors.numpy.save_file(safetensors.numpy.load_file(tmp_path / "w.safetensors"), tmp_path / "w.safetensors")
    config = config_of(f"--config.init_from={tmp_path / 'w.safetensors'}")
    got = initial_variables(config)(create_model(SPEC, num_classes=4))
    assert got["params"].pop("classifier")["kernel"].shape == (SPEC.head_width, 4)
    assert reference.equal(got, variables)


def test_a_run_starts_from_a_file_in_a_bucket_that_is_copied_once(timm_file, tmp_path, monkeypatch):
    path, variables = timm_file
    shutil.copy(path, use_as_bucket(tmp_path / "bucket", monkeypatch) / "w.safetensors")
    copy, copied = tf.io.gfile.copy, []
    monkeypatch.setattr(tf.io.gfile, "copy", lambda *paths, **options: copied.append(paths) or copy(*paths, **options))
    got = initial_variables(config_of("--config.init_from=gs://bucket/w.safetensors"))(
        create_model(SPEC, num_classes=4)
    )
    np.testing.assert_array_equal(got["params"]["stem_conv"]["kernel"], variables["params"]["stem_conv"]["kernel"])
    assert len(copied) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.init_from=x", "--config.init_framework=mxnet"], "'mxnet'.* official, timm"),
        (["--config.init_from=<weights>"], "no published weights of this variant, .* pass --config.init_from=$"),
    ],
)
def test_unknown_frameworks_and_placeholders_are_refused_before_the_run(overrides, message):
    with pytest.raises(ValueError, match=message):
        initial_variables(config_of(*overrides))


def test_weights_that_do_not_exist_are_refused():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tgz does not exist"):
        initial_variables(config_of("--config.init_from=nowhere.tgz"))(create_model(SPEC, num_classes=10))


def test_weights_of_another_padding_or_network_are_refused(timm_file):
    path, _ = timm_file
    config = config_of(f"--config.init_from={path}", "--config.init_framework=timm")
    with pytest.raises(ValueError, match=r"padding 'same' .* 'symmetric'; pass --config\.model\.padding=same"):
        initial_variables(config)(create_model(SPEC, num_classes=10, padding="symmetric"))
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        initial_variables(config)(create_model("efficientnetv2-b0", num_classes=10))


def test_a_run_without_initial_weights_gets_fresh_ones():
    assert initial_variables(config_of()) is None


@pytest.mark.parametrize("target", ["timm", "flax"])
def test_a_file_is_evaluated_with_its_own_preprocessing(timm_file, tmp_path, capsys, target):
    """A classifier that always answers 3 is right for exactly the threes in the test split."""
    _, variables = timm_file
    constant = {"kernel": np.zeros_like(variables["params"]["classifier"]["kernel"]), "bias": np.eye(10)[3]}
    constant = {name: value.astype(np.float32) for name, value in constant.items()}
    variables = {**variables, "params": {**variables["params"], "classifier": constant}}
    path = tmp_path / "threes.safetensors"
    provenance = dataclasses.replace(default_provenance(variables, SPEC), preprocessing="finetune", eval_size=24)
    save_variables(path, variables, SPEC, target=target, provenance=provenance)
    command = ["evaluate", "--config", "configs/smoke.py", "--checkpoint", str(path), "--json"]
    assert main([*command, "--config.compilation_cache="]) == 0
    (results,) = json.loads(capsys.readouterr().out.splitlines()[-1]).values()
    threes = {"count": 360, "top1": 100 * 37 / 360}
    assert results["count"] == threes["count"]
    assert results["top1"] == pytest.approx(threes["top1"], abs=0.3)


@pytest.mark.parametrize(
    ("overrides", "used"),
    [
        ([], ("finetune", "whole")),
        (["--config.data.preprocessing=v2"], ("v2", "whole")),
        (["--config.data.eval_crop=centre"], ("finetune", "centre")),
    ],
)
def test_preprocessing_named_on_the_command_line_replaces_that_of_the_file(tmp_path, monkeypatch, overrides, used):
    variables = init_variables(create_model(SPEC, num_classes=10), 0)
    own = default_provenance(variables, SPEC)
    own = dataclasses.replace(own, preprocessing="finetune", eval_crop="whole", eval_size=24)
    save_variables(tmp_path / "w.safetensors", variables, SPEC, provenance=own)
    seen = []
    monkeypatch.setattr(
        "effnetv2_jax.train.evaluation.evaluate_weights", lambda config, *_: seen.append(config.data) or {}
    )
    path = str(tmp_path / "w.safetensors")
    assert main(["evaluate", "--config", "configs/smoke.py", "--checkpoint", path, "--json", *overrides]) == 0
    assert [(data.preprocessing, data.eval_crop) for data in seen] == [used]


def test_weights_of_other_classes_are_refused(tmp_path, capsys):
    variables = init_variables(create_model(SPEC, num_classes=4), 0)
    save_variables(tmp_path / "four.safetensors", variables, SPEC, target="flax")
    command = ["evaluate", "--config", "configs/smoke.py", "--checkpoint", str(tmp_path / "four.safetensors")]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "4 classes" in error
    assert "digits has 10" in error
