"""Running a file in a network of PyTorch."""

import sys
import types

import numpy as np
import pytest
import safetensors.numpy
from golden import reference

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert import verification
from effnetv2_jax.convert.frameworks.framework import Framework
from effnetv2_jax.convert.frameworks.pytorch import run_network
from effnetv2_jax.convert.frameworks.table import FRAMEWORKS
from effnetv2_jax.convert.weights import default_provenance

IMAGES = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)


def build(package, name, num_classes):
    torch = pytest.importorskip("torch")
    assert (package.__version__, name) == ("7", "net")
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, num_classes))


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of the network above, in the package `made_up` 7."""
    monkeypatch.setitem(sys.modules, "made_up", types.SimpleNamespace(__version__="7"))
    weight = np.random.default_rng(1).normal(size=(5, 48)).astype(np.float32)
    tensors = {"1.weight": weight, "1.bias": np.arange(5, dtype=np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors", tensors


def test_images_go_in_channels_first_and_logits_come_out(file):
    path, tensors = file
    what, logits = run_network("made_up", build, "net", 5, path, IMAGES)
    assert what == "made_up 7 net"
    flat = IMAGES.transpose(0, 3, 1, 2).reshape(2, 48)
    np.testing.assert_allclose(logits, flat @ tensors["1.weight"].T + tensors["1.bias"], rtol=1e-5, atol=1e-5)


def test_a_file_with_an_unknown_tensor_is_refused(file):
    path, tensors = file
    safetensors.numpy.save_file(tensors | {"extra": np.zeros(1, np.float32)}, path)
    with pytest.raises(RuntimeError, match="extra"):
        run_network("made_up", build, "net", 5, path, IMAGES)


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_without_the_package_there_are_no_logits_of_its_network(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    provenance = default_provenance({}, VARIANTS["efficientnetv2-s"])
    assert verification.framework_logits(FRAMEWORKS[name], provenance, tmp_path / "w.safetensors", IMAGES) is None


def test_the_logits_of_a_framework_s_own_network_are_what_counts(tmp_path):
    """A network that computes something else makes the conversion inexact."""
    spec = VARIANTS["efficientnetv2-b0"]
    called = []

    def run(name, num_classes, _, images):
        called.append((name, num_classes))
        return "made_up 7", np.zeros((len(images), num_classes), np.float32)

    own = FRAMEWORKS["timm"]
    framework = Framework(own.name, own.names, own.layouts, own.formats, own.architectures, "same", 1e-3, run=run)
    variables = reference.official_variables(spec, 3)
    found = verification.verify(variables, default_provenance(variables, spec), tmp_path / "w.safetensors", framework)
    assert called == [("tf_efficientnetv2_b0", 3)]
    assert found.against == "made_up 7"
    assert found.difference == found.largest_logit > 0
    assert not found.exact
