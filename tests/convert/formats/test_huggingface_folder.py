"""The Hugging Face folder that timm loads."""

import json

import pytest
from golden import reference
from golden.official_weights import input_images

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.weights import load_variables, save_variables


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of B0 with three classes, and the variables in it."""
    spec = VARIANTS["efficientnetv2-b0"]
    variables = reference.official_variables(spec, 3)
    path = tmp_path_factory.mktemp("hub") / "model"
    save_variables(path, variables, spec, target="timm")
    return path, variables


def test_the_folder_has_two_files_and_is_read_back(folder):
    path, variables = folder
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((path / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("tf_efficientnetv2_b0", 3)
    assert reference.equal(load_variables(path, "efficientnetv2-b0", framework="timm"), variables)
    assert reference.equal(load_variables(path), variables)


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
