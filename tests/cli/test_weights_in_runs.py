"""Weights of any kind in training and evaluation: where a run starts from, and foreign weights over a data set."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from golden import reference

from effnetv2_jax import VARIANTS, create_model, save_variables
from effnetv2_jax.cli.config_file import load_config
from effnetv2_jax.cli.initial_weights import initial_variables
from effnetv2_jax.cli.main import main
from effnetv2_jax.convert.weights import default_provenance
from effnetv2_jax.model.initializers import init_variables
from effnetv2_jax.train.recipe import parameter_paths

ROOT = Path(__file__).parent.parent.parent
SPEC = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)


def config_of(*overrides):
    given = type("Arguments", (), {"config": str(ROOT / "configs/smoke.py"), "overrides": list(overrides)})
    return load_config(given)


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory):
    """A timm file of the smoke config's network with ten classes, and its variables."""
    variables = init_variables(create_model(SPEC, num_classes=10), 7)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_variables(path, variables, SPEC, target="timm")
    return path, variables


def test_a_run_starts_from_a_file_with_the_head_it_has(timm_file, capsys):
    path, variables = timm_file
    config = config_of(f"--config.init_from={path}", "--config.init_source=timm")
    got = initial_variables(config)(create_model(SPEC, num_classes=10))
    assert reference.equal(got, variables)
    assert f"{len(parameter_paths.flatten(variables))} tensors come from {path}" in capsys.readouterr().out


def test_a_run_with_other_classes_gets_a_new_head_and_says_so(timm_file, capsys):
    path, variables = timm_file
    config = config_of(f"--config.init_from={path}", "--config.init_source=timm")
    got = parameter_paths.flatten(initial_variables(config)(create_model(SPEC, num_classes=4)))
    assert got["params/classifier/kernel"].shape == (SPEC.head_width, 4)
    for name, value in parameter_paths.flatten(variables).items():
        assert "classifier" in name or np.array_equal(got[name], value)
    said = capsys.readouterr().out
    assert "new: params/classifier/kernel, params/classifier/bias" in said or "new: params/classifier/bias" in said


def test_weights_of_another_padding_or_network_are_refused(timm_file):
    path, _ = timm_file
    config = config_of(f"--config.init_from={path}", "--config.init_source=timm")
    with pytest.raises(
        ValueError, match=r"padding 'same' and the model has 'symmetric': add --config.model.padding=same"
    ):
        initial_variables(config)(create_model(SPEC, num_classes=10, padding="symmetric"))
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        initial_variables(config)(create_model("efficientnetv2-b0", num_classes=10))


def test_no_weights_to_start_from_mean_fresh_ones():
    assert initial_variables(config_of()) is None


@pytest.mark.parametrize("target", ["timm", "flax"])
def test_foreign_weights_are_evaluated_with_their_own_preprocessing(timm_file, tmp_path, capsys, target):
    """Classifier biases that always answer 3 get exactly the share of threes in the test split."""
    _, variables = timm_file
    constant = {"kernel": np.zeros_like(variables["params"]["classifier"]["kernel"]), "bias": np.eye(10)[3]}
    constant = {name: value.astype(np.float32) for name, value in constant.items()}
    variables = {**variables, "params": {**variables["params"], "classifier": constant}}
    path = tmp_path / "threes.safetensors"
    facts = dataclasses.replace(default_provenance(variables, SPEC), preprocessing="finetune", eval_size=24)
    save_variables(path, variables, SPEC, target=target, provenance=facts)
    command = ["evaluate", "--config", "configs/smoke.py", "--checkpoint", str(path), "--source", target, "--json"]
    assert main([*command, "--config.compilation_cache="]) == 0
    (results,) = json.loads(capsys.readouterr().out.splitlines()[-1]).values()
    threes = {"count": 360, "top1": 100 * 37 / 360}
    assert results["count"] == threes["count"]
    assert results["top1"] == pytest.approx(threes["top1"], abs=0.3)


def test_foreign_weights_of_other_classes_are_refused(timm_file, tmp_path, capsys):
    variables = init_variables(create_model(SPEC, num_classes=4), 0)
    save_variables(tmp_path / "four.safetensors", variables, SPEC, target="flax")
    command = ["evaluate", "--config", "configs/smoke.py", "--checkpoint", str(tmp_path / "four.safetensors")]
    assert main(command) == 1
    assert "the weights have 4 classes and digits has 10" in capsys.readouterr().err
