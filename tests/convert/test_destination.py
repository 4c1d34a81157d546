"""Weights that are written to a bucket or to the Hugging Face Hub."""

import dataclasses
import json

import pytest
import yaml
from fake_bucket import use_as_bucket
from golden import reference
from weight_server import TOKEN, WeightServer

from effnetv2_jax import VARIANTS, load_weights, save_variables
from effnetv2_jax.cli.main import main
from effnetv2_jax.convert.model_card import model_card
from effnetv2_jax.convert.verification import Verification
from effnetv2_jax.model.provenance import Provenance

SMALL = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)
EXACT = Verification(1e-7, 1.0, "the file read back", "flax", "")


@pytest.fixture
def weights(tmp_path):
    """A flax file of a small network with two classes, whose training started from published weights."""
    variables = reference.official_variables(SMALL, 2)
    provenance = Provenance(
        SMALL, 2, "same", 1e-3, "averaged", "finetune", 64, ("cat", "do|g"), started_from="efficientnetv2-b0.in1k"
    )
    save_variables(tmp_path / "w.safetensors", variables, SMALL, provenance=provenance)
    return tmp_path / "w.safetensors"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with WeightServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.origin)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("EFFNETV2_JAX_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


def test_a_conversion_to_the_hub_makes_a_folder_for_timm_with_a_card(hub, weights, capsys):
    assert main(["convert", str(weights), "hf://me/my-model", "--to", "timm", "--private"]) == 0
    assert "wrote hf://me/my-model" in capsys.readouterr().out
    [(repository, files)] = hub.commits
    assert repository == "me/my-model"
    assert repository in hub.private
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    assert json.loads(files["config.json"])["label_names"] == ["cat", "do|g"]
    _, metadata, text = files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(metadata)["base_model"] == "timm/tf_efficientnetv2_b0.in1k"
    assert "license" not in yaml.safe_load(metadata)
    assert "training started from are under apache-2.0" in text
    assert r'| classes | 2: "cat", "do\|g" |' in text
    loaded = load_weights("hf://me/my-model")
    assert loaded.provenance.class_names == ("cat", "do|g")
    assert loaded.provenance.read_from == "timm:me/my-model"
    assert reference.equal(loaded.variables, reference.official_variables(SMALL, 2))


def test_a_card_that_is_there_already_stays(hub, weights):
    hub.repositories["me/my-model"] = {"README.md": b"my own words"}
    assert main(["convert", str(weights), "hf://me/my-model", "--to", "timm"]) == 0
    assert hub.repositories["me/my-model"]["README.md"] == b"my own words"
    assert sorted(hub.commits[0][1]) == ["config.json", "model.safetensors"]


def test_one_file_is_uploaded_for_frameworks_without_folders(hub, weights):
    assert main(["convert", str(weights), "hf://me/mine/flax/w.safetensors", "--to", "flax"]) == 0
    assert list(hub.commits[0][1]) == ["flax/w.safetensors"]
    assert load_weights("hf://me/mine/flax/w.safetensors").provenance.spec == SMALL


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hf://me/mine", "--to", "torchvision"], "torchvision weights are written to a .safetensors file"),
        (["hf://me/mine/w.pth", "--to", "timm"], "not to .pth files"),
        (["hf://me", "--to", "timm"], "the forms are hf://OWNER/REPOSITORY"),
    ],
)
def test_wrong_destinations_are_refused_before_anything_is_sent(hub, weights, capsys, words, message):
    assert main(["convert", str(weights), *words]) == 1
    assert message in capsys.readouterr().err
    assert hub.requests == []


def test_without_a_network_nothing_is_uploaded(hub, weights, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["convert", str(weights), "hf://me/mine", "--to", "timm"]) == 1
    assert "hf://me/mine cannot be written: the network is switched off by HF_HUB_OFFLINE" in capsys.readouterr().err
    assert hub.requests == []


def test_the_card_of_published_weights_has_their_licence_accuracy_and_base():
    spec = VARIANTS["efficientnetv2-s"]
    provenance = Provenance(spec, 1000, "same", 1e-3, preprocessing="finetune", eval_size=384, label_set="imagenet-1k")
    provenance = dataclasses.replace(
        provenance, read_from="timm:timm/tf_efficientnetv2_s.in21k_ft_in1k", read_from_sha256="ab" * 32
    )
    _, metadata, text = model_card(provenance, EXACT, "me/s").split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "effnetv2_jax"],
        "license": "apache-2.0",
        "base_model": "timm/tf_efficientnetv2_s.in21k_ft_in1k",
        "datasets": ["imagenet-1k"],
    }
    assert "| published top-1 on ImageNet-1k | 84.288 % (pytorch-image-models" in text
    assert 'timm.create_model("hf-hub:me/s", pretrained=True)' in text
    assert "## Licence" not in text


@pytest.mark.parametrize("name", ["model", "w.safetensors"])
def test_weights_are_written_to_a_bucket(weights, tmp_path, monkeypatch, name):
    bucket = use_as_bucket(tmp_path / "bucket", monkeypatch)
    assert main(["convert", str(weights), f"gs://bucket/{name}", "--to", "timm"]) == 0
    written = sorted(str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file())
    assert written == (["model/config.json", "model/model.safetensors"] if name == "model" else ["w.safetensors"])
    assert load_weights(f"gs://bucket/{name}").provenance.class_names == ("cat", "do|g")
