"""The folder that timm loads."""

import json

import pytest
from golden import reference
from golden.official_weights import input_images

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.formats.huggingface_folder import timm_config
from effnetv2_jax.convert.weights import default_provenance, load_variables, save_variables
from effnetv2_jax.model.provenance import Provenance


def facts(variant, **changes):
    spec = VARIANTS[variant]
    fields = {"preprocessing": spec.preprocessing, "eval_size": spec.eval_size} | changes
    return Provenance(spec, 1000, spec.padding, spec.bn_epsilon, **fields)


V2 = {"mean": [128 / 255] * 3, "std": [128 / 255] * 3, "interpolation": "bilinear"}
LEGACY = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bicubic"}
SQUASH = {"crop_pct": 1.0, "crop_mode": "squash"}


@pytest.mark.parametrize(
    ("variant", "size", "expected"),
    [
        ("efficientnetv2-s", 384, V2 | SQUASH),
        ("efficientnetv2-m", 480, V2 | SQUASH),
        ("efficientnetv2-l", 480, V2 | SQUASH),
        ("efficientnetv2-xl", 512, V2 | SQUASH),
        ("efficientnetv2-b0", 224, LEGACY | {"crop_pct": 224 / 256, "crop_mode": "center"}),
        ("efficientnetv2-b3", 300, LEGACY | {"crop_pct": 300 / 332, "crop_mode": "center"}),
        ("efficientnet-b7", 600, LEGACY | {"crop_pct": 600 / 632, "crop_mode": "center"}),
    ],
)
def test_the_evaluation_that_belongs_to_each_variant(variant, size, expected):
    config = timm_config(facts(variant))
    assert config["architecture"] == "tf_" + variant.replace("-", "_")
    assert config["pretrained_cfg"]["input_size"] == [3, size, size]
    stated = {key: config["pretrained_cfg"][key] for key in expected}
    assert {key: pytest.approx(value) for key, value in expected.items()} == stated


def test_v2_crops_below_320_and_finetuned_weights_never():
    assert timm_config(facts("efficientnetv2-s", eval_size=300))["pretrained_cfg"]["crop_mode"] == "center"
    finetuned = timm_config(facts("efficientnetv2-s", eval_size=300, preprocessing="finetune"))["pretrained_cfg"]
    assert (finetuned["crop_mode"], finetuned["mean"]) == ("squash", [0.5] * 3)


def test_class_names_and_classes_are_told():
    spec = VARIANTS["efficientnetv2-b0"]
    config = timm_config(Provenance(spec, 2, "same", 1e-3, "raw", "legacy", 224, ("cat", "dog")))
    assert config["num_classes"] == config["pretrained_cfg"]["num_classes"] == 2
    assert config["label_names"] == ["cat", "dog"]
    assert config["num_features"] == 1280


def test_a_structure_without_a_name_is_refused():
    with pytest.raises(ValueError, match="timm has no model"):
        timm_config(Provenance(reference.TINY, 10, "same", 1e-3, preprocessing="legacy", eval_size=64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of B0 with three classes, and the variables in it."""
    spec = VARIANTS["efficientnetv2-b0"]
    variables = reference.official_variables(spec, 3)
    path = tmp_path_factory.mktemp("hub") / "model"
    save_variables(path, variables, spec, target="timm", provenance=default_provenance(variables, spec))
    return path, variables


def test_the_folder_has_two_files_and_is_read_back(folder):
    path, variables = folder
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((path / "config.json").read_text())["num_classes"] == 3
    assert reference.equal(load_variables(path, "efficientnetv2-b0", source="timm"), variables)


def test_timm_loads_the_folder_as_it_is(folder):
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    path, variables = folder
    model = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    data = timm.data.resolve_model_data_config(model)
    assert list(data["input_size"]) == [3, 224, 224]
    assert (data["crop_pct"], data["crop_mode"], data["interpolation"]) == (0.875, "center", "bicubic")
    images = input_images(64)
    with torch.inference_mode():
        got = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    logits, _ = reference.network(VARIANTS["efficientnetv2-b0"], 3)(variables, images)
    assert reference.relative(got, logits) <= 5e-6
