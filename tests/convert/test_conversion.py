"""Conversions from file to file, verified before they appear."""

import copy
import json

import numpy as np
import pytest
import safetensors.numpy
from golden import reference

from effnetv2_jax.convert import verification
from effnetv2_jax.convert.conversion import convert
from effnetv2_jax.convert.verification import Verification, fixed_images
from effnetv2_jax.convert.weights import load_variables, load_weights, save_variables


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A file of ours, of the tiny network."""
    path = tmp_path_factory.mktemp("ours") / "tiny.safetensors"
    save_variables(path, reference.official_variables(reference.TINY, 10), reference.TINY)
    return path


@pytest.fixture(autouse=True)
def without_torch(monkeypatch):
    """The PyTorch side is run in development; here the file is read back through our own inverse."""
    monkeypatch.setattr("effnetv2_jax.convert.verification.foreign_logits", lambda *_: None)


def test_to_timm_is_exact_and_says_what_it_is(tmp_path, ours, tiny):
    path = tmp_path / "timm.safetensors"
    names = tuple("abcdefghij")
    done = convert(ours, path, source="flax", target="timm", class_names=names, preprocessing="finetune", eval_size=96)
    assert done.verification.exact
    assert done.verification.difference == 0.0
    assert "exact" in str(done.verification)
    assert reference.equal(load_variables(path, source="timm"), tiny)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert metadata["source"] == "flax:tiny.safetensors"
    assert len(metadata["source_sha256"]) == 64
    assert metadata["variant"] == reference.TINY.name
    assert (metadata["preprocessing"], metadata["eval_size"], metadata["exact"]) == ("finetune", "96", "true")
    assert json.loads(metadata["class_names"]) == list(names)
    assert metadata["convention"] == "timm"


def test_to_torchvision_is_not_exact_and_says_why(tmp_path, ours):
    done = convert(ours, tmp_path / "w.safetensors", source="flax", target="torchvision")
    assert not done.verification.exact
    assert done.verification.relative > 1e-3
    assert "torchvision pads symmetric, these weights were trained with same" in str(done.verification)
    assert load_weights(tmp_path / "w.safetensors", source="torchvision").provenance.exact is False


def test_torchvision_s_own_weights_go_back_exactly(tmp_path):
    theirs, ours, back = (tmp_path / f"{name}.safetensors" for name in ("theirs", "ours", "back"))
    variables = reference.torch_variables("torchvision", reference.TINY, 10)
    save_variables(theirs, variables, reference.TINY, target="torchvision")
    state = safetensors.numpy.load_file(theirs)
    safetensors.numpy.save_file(state, theirs)  # as downloaded: without facts of ours
    done = convert(theirs, ours, reference.TINY, source="torchvision", target="flax")
    assert done.verification.exact
    assert done.provenance.padding == "symmetric"
    assert convert(ours, back, source="flax", target="torchvision").verification.exact
    assert safetensors.numpy.load_file(back).keys() == state.keys()
    assert "timm pads same" in convert(ours, back, source="flax", target="timm").verification.deviation


def test_weights_that_give_no_number_are_not_converted(tmp_path, tiny):
    broken = copy.deepcopy(tiny)
    broken["params"]["head_conv"]["kernel"] = np.full_like(broken["params"]["head_conv"]["kernel"], np.nan)
    save_variables(tmp_path / "nan.safetensors", broken, reference.TINY)
    with pytest.raises(ValueError, match="nothing was written"):
        convert(tmp_path / "nan.safetensors", tmp_path / "w.safetensors", source="flax", target="timm")
    assert [file.name for file in tmp_path.iterdir()] == ["nan.safetensors"]


def test_a_wrong_file_is_noticed_and_not_put_in_place(tmp_path, ours, monkeypatch):
    read_back = verification._read_back

    def swapped(*arguments):
        variables = read_back(*arguments)
        variables["params"]["block_0"]["fused_norm"]["scale"] = variables["params"]["block_0"]["fused_norm"]["bias"]
        return variables

    monkeypatch.setattr(verification, "_read_back", swapped)
    (tmp_path / "w.safetensors").write_text("old")
    with pytest.raises(ValueError, match="they should agree"):
        convert(ours, tmp_path / "w.safetensors", source="flax", target="timm")
    assert (tmp_path / "w.safetensors").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_dropped_head_leaves_the_pooled_features(tmp_path, ours):
    done = convert(ours, tmp_path / "w.safetensors", source="flax", target="timm", new_head=0)
    assert done.verification.exact
    assert done.provenance.num_classes == 0
    assert "classifier" not in load_variables(tmp_path / "w.safetensors", source="timm")["params"]


def test_relative_differences_and_verdicts():
    assert Verification(1e-6, 2.0, "x", "").relative == 5e-7
    assert Verification(1e-6, 2.0, "x", "").exact
    assert not Verification(1.0, 2.0, "x", "").exact
    assert not Verification(float("nan"), 2.0, "x", "").exact
    assert not Verification(0.0, 2.0, "x", "another padding").exact


def test_fixed_images_are_fixed_and_large_enough():
    first, second = (fixed_images(reference.TINY) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (2, 64, 64, 3)
