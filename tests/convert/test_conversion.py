"""Conversions from file to file, which are verified before the new file appears."""

import copy
import json
import sys

import numpy as np
import pytest
import safetensors.numpy
from golden import reference

from effnetv2_jax.convert import verification
from effnetv2_jax.convert.conversion import convert
from effnetv2_jax.convert.verification import Verification, fixed_images
from effnetv2_jax.convert.weights import load_variables, load_weights, save_variables


@pytest.fixture(scope="module")
def flax_file(tmp_path_factory):
    """A flax file of the tiny network."""
    path = tmp_path_factory.mktemp("flax") / "tiny.safetensors"
    save_variables(path, reference.official_variables(reference.TINY, 10), reference.TINY)
    return path


@pytest.fixture(autouse=True)
def without_torch(monkeypatch):
    """Hides timm and torchvision, so that verification reads files back."""
    for package in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, package, None)


def test_a_timm_file_is_exact_and_records_its_provenance(tmp_path, flax_file, tiny):
    path = tmp_path / "timm.safetensors"
    names = tuple("abcdefghij")
    done = convert(flax_file, path, target="timm", class_names=names, preprocessing="finetune", eval_size=96)
    assert done.verification.exact
    assert done.verification.difference == 0.0
    assert str(done.verification).endswith("against the file read back (timm is not installed): exact")
    assert reference.equal(load_variables(path, framework="timm"), tiny)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert metadata["read_from"] == "flax:tiny.safetensors"
    assert len(metadata["read_from_sha256"]) == 64
    assert metadata["variant"] == reference.TINY.name
    assert (metadata["preprocessing"], metadata["eval_size"], metadata["exact"]) == ("finetune", "96", "true")
    assert json.loads(metadata["class_names"]) == list(names)
    assert metadata["framework"] == "timm"


def test_a_torchvision_file_is_not_exact_and_the_reason_is_named(tmp_path, flax_file):
    done = convert(flax_file, tmp_path / "w.safetensors", target="torchvision")
    assert not done.verification.exact
    assert done.verification.relative > 1e-3
    assert "torchvision uses padding symmetric, but these weights were trained with same" in str(done.verification)
    assert "against the file read back and computed as torchvision does (torchvision is not" in str(done.verification)
    assert load_weights(tmp_path / "w.safetensors").provenance.exact is False


def test_torchvision_weights_are_converted_to_flax_and_back_exactly(tmp_path):
    downloaded, flax_file, back = (tmp_path / f"{name}.safetensors" for name in ("downloaded", "flax", "back"))
    variables = reference.torch_variables("torchvision", reference.TINY, 10)
    save_variables(downloaded, variables, reference.TINY, target="torchvision")
    state = safetensors.numpy.load_file(downloaded)
    safetensors.numpy.save_file(state, downloaded)  # without a provenance
    done = convert(downloaded, flax_file, reference.TINY, target="flax")
    assert done.verification.exact
    assert (done.verification.against, done.verification.computed_by) == ("the file read back", "flax")
    assert done.provenance.padding == "symmetric"
    assert convert(flax_file, back, target="torchvision").verification.exact
    assert safetensors.numpy.load_file(back).keys() == state.keys()
    assert "timm uses padding same" in convert(flax_file, back, target="timm").verification.deviation


def test_weights_with_nan_logits_are_not_converted(tmp_path, tiny):
    broken = copy.deepcopy(tiny)
    broken["params"]["head_conv"]["kernel"] = np.full_like(broken["params"]["head_conv"]["kernel"], np.nan)
    save_variables(tmp_path / "nan.safetensors", broken, reference.TINY)
    with pytest.raises(ValueError, match="nothing was written"):
        convert(tmp_path / "nan.safetensors", tmp_path / "w.safetensors", target="timm")
    assert [file.name for file in tmp_path.iterdir()] == ["nan.safetensors"]


def test_a_wrongly_written_file_is_detected_and_replaces_nothing(tmp_path, flax_file, monkeypatch):
    read_back = verification._read_back

    def swapped(*arguments):
        variables = read_back(*arguments)
        variables["params"]["block_0"]["fused_norm"]["scale"] = variables["params"]["block_0"]["fused_norm"]["bias"]
        return variables

    monkeypatch.setattr(verification, "_read_back", swapped)
    (tmp_path / "w.safetensors").write_text("old")
    with pytest.raises(ValueError, match="they should agree"):
        convert(flax_file, tmp_path / "w.safetensors", target="timm")
    assert (tmp_path / "w.safetensors").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_dropped_head_leaves_the_pooled_features(tmp_path, flax_file):
    done = convert(flax_file, tmp_path / "w.safetensors", target="timm", new_head=0)
    assert done.verification.exact
    assert done.provenance.num_classes == 0
    assert "classifier" not in load_variables(tmp_path / "w.safetensors", framework="timm")["params"]


def test_a_verification_is_exact_for_small_differences_without_a_deviation():
    assert Verification(1e-6, 2.0, "x", "flax", "").relative == 5e-7
    assert Verification(1e-6, 2.0, "x", "flax", "").exact
    assert not Verification(1.0, 2.0, "x", "flax", "").exact
    assert not Verification(float("nan"), 2.0, "x", "flax", "").exact
    assert not Verification(0.0, 2.0, "x", "flax", "another padding").exact


def test_the_images_of_a_verification_are_fixed_and_large_enough():
    first, second = (fixed_images(reference.TINY) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (2, 64, 64, 3)
