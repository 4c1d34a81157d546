"""PyTorch networks that run a file of weights."""

import sys
import types

import numpy as np
import pytest
import safetensors.numpy
from golden import reference

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert import verification
from effnetv2_jax.convert.frameworks.architecture import Architecture, NoNetwork
from effnetv2_jax.convert.frameworks.framework import Framework
from effnetv2_jax.convert.frameworks.pytorch import import_package, run_network
from effnetv2_jax.convert.frameworks.table import FRAMEWORKS
from effnetv2_jax.convert.weights import default_provenance

SPEC = VARIANTS["efficientnetv2-b0"]
ARCHITECTURE = Architecture("net", "same", 1e-3, "legacy", 224, {"width": 0.5})
IMAGES = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)


def build(package, spec, architecture, num_classes):
    torch = pytest.importorskip("torch")
    assert (package.__version__, spec, architecture) == ("7", SPEC, ARCHITECTURE)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, num_classes))


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of the network above, in the package `made_up` 7."""
    monkeypatch.setitem(sys.modules, "made_up", types.SimpleNamespace(__version__="7"))
    weight = np.random.default_rng(1).normal(size=(5, 48)).astype(np.float32)
    tensors = {"1.weight": weight, "1.bias": np.arange(5, dtype=np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors", tensors


def test_a_network_gets_images_with_channels_first_and_returns_logits(file):
    path, tensors = file
    what, logits = run_network("made_up", build, SPEC, ARCHITECTURE, 5, path, IMAGES)
    assert what == "made_up 7 net(width=0.5)"
    flat = IMAGES.transpose(0, 3, 1, 2).reshape(2, 48)
    np.testing.assert_allclose(logits, flat @ tensors["1.weight"].T + tensors["1.bias"], rtol=1e-5, atol=1e-5)


def test_a_file_with_an_unknown_tensor_is_refused(file):
    path, tensors = file
    safetensors.numpy.save_file(tensors | {"extra": np.zeros(1, np.float32)}, path)
    with pytest.raises(RuntimeError, match="extra"):
        run_network("made_up", build, SPEC, ARCHITECTURE, 5, path, IMAGES)


def logits_of(name, tmp_path):
    provenance = default_provenance({}, VARIANTS["efficientnetv2-s"])
    architecture = FRAMEWORKS[name].architecture(provenance.spec)
    file = tmp_path / "w.safetensors"
    return verification.framework_logits(FRAMEWORKS[name], architecture, provenance, file, IMAGES)


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_without_the_package_no_network_is_run_and_the_reason_is_said(tmp_path, monkeypatch, name):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NoNetwork, match=f"{name} is not installed"):
        logits_of(name, tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(NoNetwork, match="torch is not installed"):
        logits_of(name, tmp_path)
    with pytest.raises(NoNetwork, match="no package of the article networks"):
        logits_of("article", tmp_path)


def test_a_package_that_does_not_fit_its_neighbours_is_like_one_that_is_missing(tmp_path, monkeypatch):
    """torchvision of another release than PyTorch fails like this when it is imported."""
    pytest.importorskip("torch")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NoNetwork, match="torchvision cannot be imported: operator torchvision::nms"):
        logits_of("torchvision", tmp_path)


def test_a_package_that_would_crash_beside_tensorflow_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "triton.py").touch()
    (tmp_path / "torchvision.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(NoNetwork, match="torchvision cannot be imported after TensorFlow"):
        import_package("torchvision")


def test_a_conversion_is_verified_with_the_logits_of_the_framework_s_own_network(tmp_path):
    """If that network computes something else, the conversion is not exact."""
    called = []

    def run(spec, architecture, num_classes, _, images):
        called.append((spec, architecture.name, num_classes))
        return "made_up 7", np.zeros((len(images), num_classes), np.float32)

    own = FRAMEWORKS["timm"]
    framework = Framework(own.name, own.names, own.layouts, own.formats, own.architectures, "same", 1e-3, run=run)
    variables = reference.official_variables(SPEC, 3)
    found = verification.verify(variables, default_provenance(variables, SPEC), tmp_path / "w.safetensors", framework)
    assert called == [(SPEC, "tf_efficientnetv2_b0", 3)]
    assert (found.against, found.computed_by) == ("made_up 7", "timm")
    assert found.difference == found.largest_logit > 0
    assert not found.exact
