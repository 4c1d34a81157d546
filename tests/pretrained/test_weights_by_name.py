"""Weights by name: in Python, on the command line and in runs, from files as others publish them."""

import json

import jax
import numpy as np
import pytest
from golden import reference
from published_files import publish, variables
from weight_server import Fault

import effnetv2_jax as e
from effnetv2_jax.cli.main import main
from effnetv2_jax.convert.weights import load_weights

B0 = "efficientnetv2-b0"
NAME = f"{B0}.in1k"


@pytest.mark.parametrize(
    ("name", "framework", "family", "read_from"),
    [
        (NAME, "timm", "legacy", "timm:timm/tf_efficientnetv2_b0.in1k"),
        (f"{B0}.in21k_ft_in1k", "official", "finetune", "official:efficientnetv2-b0-21k-ft1k.tgz"),
        (NAME, "keras", "legacy", "keras:efficientnetv2-b0.h5"),
        ("efficientnet-b0.in1k", "torchvision", "legacy", "torchvision:efficientnet_b0_rwightman-7f5810bc.pth"),
    ],
)
def test_a_name_loads_the_file_of_each_framework(hub, monkeypatch, name, framework, family, read_from):
    publish(hub, monkeypatch, name, framework)
    hub.fail(read_from.partition(":")[2], Fault(cut=1_000_000))  # all but the hub's file
    monkeypatch.setattr("time.sleep", lambda _: None)
    weights = load_weights(name, framework=framework)
    variant = name.partition(".")[0]
    assert reference.equal(weights.variables, variables(variant))
    provenance = weights.provenance
    assert (provenance.preprocessing, provenance.eval_size, provenance.read_from) == (family, 224, read_from)
    assert (provenance.label_set, provenance.eval_crop) == ("imagenet-1k", "")
    assert provenance.padding == ("symmetric" if framework == "torchvision" else "same")


@pytest.fixture
def published(hub, monkeypatch):
    """timm's B0 on the hub."""
    publish(hub, monkeypatch, NAME, "timm")
    return hub


@pytest.mark.usefixtures("published")
def test_one_line_gives_a_network_that_runs():
    model, loaded = e.load_pretrained(B0, num_classes=0)
    assert (model.num_classes, model.padding, model.bn_epsilon) == (0, "same", 1e-3)
    assert "classifier" not in loaded["params"]
    shape = jax.eval_shape(model.apply, loaded, np.zeros((2, 64, 64, 3), np.float32)).shape
    assert shape == (2, 1280)
    model, loaded = e.load_pretrained(NAME, dtype="bfloat16")
    assert reference.equal(loaded, variables(B0))
    assert model.dtype == "bfloat16"


def test_the_repository_of_a_name_is_known_by_its_address(published):
    assert load_weights("hf://timm/tf_efficientnetv2_b0.in1k").provenance == load_weights(NAME).provenance
    files = published.repositories["timm/tf_efficientnetv2_b0.in1k"]
    published.repositories["me/copy"] = {"model.safetensors": files["model.safetensors"]}
    with pytest.raises(ValueError, match="hf://me/copy: the file does not record its variant"):
        load_weights("hf://me/copy")
    assert load_weights("hf://me/copy", B0).provenance.read_from == "timm:me/copy"


def test_a_repository_that_timm_wrote_describes_its_weights(published):
    config = {
        "architecture": "tf_efficientnetv2_b0",
        "label_names": [f"class {k}" for k in range(1000)],
        "pretrained_cfg": {"input_size": [3, 192, 192], "mean": [0.5] * 3, "crop_pct": 0.9, "crop_mode": "center"},
    }
    files = published.repositories["timm/tf_efficientnetv2_b0.in1k"]
    published.repositories["me/tuned"] = files | {"config.json": json.dumps(config).encode()}
    provenance = load_weights("hf://me/tuned").provenance
    assert provenance.spec.name == B0
    assert (provenance.preprocessing, provenance.eval_size, provenance.eval_crop) == ("advprop", 192, "centre")
    assert (provenance.class_names[3], provenance.label_set) == ("class 3", "")
    assert load_weights("hf://timm/tf_efficientnetv2_b0.in1k").provenance.preprocessing == "legacy"


@pytest.mark.usefixtures("published")
def test_the_weights_of_another_variant_are_not_loaded():
    with pytest.raises(ValueError, match=rf"{NAME} has the weights of {B0}, not of efficientnetv2-s"):
        load_weights(NAME, "efficientnetv2-s")
    with pytest.raises(ValueError, match=rf"not of {B0} \(width ×0\.5"):
        load_weights(NAME, e.VARIANTS[B0].scaled(width=0.5))


@pytest.mark.usefixtures("published")
def test_predict_and_evaluate_take_a_name(monkeypatch, golden, capsys):
    seen = []
    monkeypatch.setattr(
        "effnetv2_jax.cli.commands.predict.classify", lambda weights, *_, **__: seen.append(weights) or ()
    )
    assert main(["predict", "--checkpoint", B0, str(golden / "photo.jpg")]) == 0
    monkeypatch.setattr("effnetv2_jax.train.evaluation.evaluate_weights", lambda config, *_: seen.append(config) or {})
    command = [
        "evaluate",
        "--config",
        "imagenet1k:efficientnetv2-s",
        "--checkpoint",
        NAME,
        "--framework",
        "timm",
        "--json",
    ]
    assert main(command) == 0
    weights, config = seen
    assert weights.provenance.read_from == "timm:timm/tf_efficientnetv2_b0.in1k"
    assert (config.data.preprocessing, config.evaluation.image_size) == ("legacy", 224)
    assert main(["predict", "--checkpoint", "efficientnetv2-b0.in2k", str(golden / "photo.jpg")]) == 1
    assert "those of efficientnetv2-b0: in1k" in capsys.readouterr().err


def config_of(*overrides):
    from effnetv2_jax.cli.options.config_file import load_config

    return load_config(type("Arguments", (), {"config": f"finetune:{B0},folder", "overrides": list(overrides)}))


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("efficientnetv2-s,folder", "efficientnetv2-s.in21k_ft_in1k"),
        ("efficientnetv2-s,imagenet2012", "efficientnetv2-s.in21k"),
        ("efficientnet-b0,imagenet2012", "efficientnet-b0.ns_jft_in1k"),
        ("article-s,folder", "<weights>"),
    ],
)
def test_the_weights_to_start_from_depend_on_the_variant_and_the_data_set(argument, name):
    from effnetv2_jax.cli.options.config_file import load_config

    given = type("Arguments", (), {"config": f"finetune:{argument}", "overrides": []})
    assert load_config(given).init_from == name


@pytest.mark.usefixtures("published")
def test_a_run_starts_from_the_best_weights_of_its_variant_without_being_told_which(capsys):
    from effnetv2_jax.cli.initial_weights import initial_variables

    config = config_of()
    assert config.init_from == NAME
    got = initial_variables(config)(e.create_model(B0, num_classes=4))
    assert got["params"].pop("classifier")["bias"].shape == (4,)
    expected = {**variables(B0), "params": {k: v for k, v in variables(B0)["params"].items() if k != "classifier"}}
    assert reference.equal(got, expected)
    assert f"tensors come from {NAME}" in capsys.readouterr().out


def test_a_run_without_a_network_is_told_how_to_go_on(monkeypatch, own_cache):
    from effnetv2_jax.cli.initial_weights import initial_variables

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError) as error:
        initial_variables(config_of())(e.create_model(B0, num_classes=4))
    place = own_cache / "huggingface/timm/tf_efficientnetv2_b0.in1k/model.safetensors"
    assert f"{NAME}: " in str(error.value)
    assert f" at {place}, or give the path of a file of weights; for fresh weights, pass --config.init_from=" in str(
        error.value
    )


@pytest.mark.parametrize("wrong", [False, True])
def test_a_file_that_a_user_put_in_its_place_is_used_if_it_is_the_right_one(server, monkeypatch, own_cache, wrong):
    row = publish(server, monkeypatch, NAME, "keras")
    place = own_cache / "keras" / row.file
    place.parent.mkdir(parents=True)
    place.write_bytes(server.files[row.file][: -1 if wrong else None])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if wrong:
        with pytest.raises(OSError, match=rf"{place} is damaged or another file: its md5 is .*; remove it"):
            load_weights(NAME, framework="keras")
    else:
        assert reference.equal(load_weights(NAME, framework="keras").variables, variables(B0))
    assert server.requests == []


def test_without_a_network_the_file_of_another_server_to_put_where_is_named(monkeypatch, own_cache):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    url = "https://download.pytorch.org/models/efficientnet_v2_s-dd5fe13b.pth"
    place = own_cache / "torchvision/efficientnet_v2_s-dd5fe13b.pth"
    with pytest.raises(ConnectionError, match=f"efficientnetv2-s.in1k: .*put the file {url} at {place}"):
        load_weights("efficientnetv2-s.in1k", framework="torchvision")


@pytest.mark.parametrize(
    ("init_from", "recorded"),
    [(NAME, NAME), ("hf://me/mine@v1", "hf://me/mine@v1"), ("/home/me/secret/w.pth", "w.pth"), ("", "")],
)
def test_the_weights_of_a_run_record_what_its_training_started_from(init_from, recorded):
    from effnetv2_jax.cli.options.config_file import load_config
    from effnetv2_jax.train import derivation

    overrides = [f"--config.init_from={init_from}"]
    config = load_config(type("Arguments", (), {"config": "smoke", "overrides": overrides}))
    assert derivation.make_experiment(config, devices=1).provenance().started_from == recorded
