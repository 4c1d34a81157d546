"""Files of Keras, compared with Keras itself, and files that are not accepted."""

import h5py
import jax
import numpy as np
import pytest

from effnetv2_jax import VARIANTS, load_weights
from effnetv2_jax.convert.formats import h5_file, h5_reader
from effnetv2_jax.convert.formats.h5_file import open_h5
from effnetv2_jax.data.images.families import preprocessing_family

# Depth 0.34 keeps one block or more of every kind; the network has 5 classes and 64 px.
FACTORS = (0.25, 0.34)
SPECS = {name: VARIANTS[name].scaled(*FACTORS) for name in ("efficientnetv2-b0", "efficientnetv2-s")}


@pytest.fixture(scope="module")
def networks():
    """Keras's networks with random weights, which begin with the layers that normalise the images."""
    keras = pytest.importorskip("keras")
    efficientnet = keras.src.applications.efficientnet_v2
    random = np.random.default_rng(0)
    made = {}
    for name in SPECS:
        made[name] = efficientnet.EfficientNetV2(
            *FACTORS, 64, name=name, weights=None, classes=5, classifier_activation=None, input_shape=(64, 64, 3)
        )
        for weight in made[name].weights:
            positive = "variance" in weight.path or "gamma" in weight.path
            weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.1, weight.shape))
    return made


def save(network, path, layout):
    """Saves the weights of a network of Keras in one of the layouts."""
    if layout == "keras 3":
        network.save_weights(path)
        return
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        if layout == "legacy":
            legacy_h5_format.save_weights_to_hdf5_group(file, network)
            return
        # As Keras 2 named the tensors of the published files, which Keras 3 no longer writes.
        for layer in network.layers:
            group = file.create_group(layer.name)
            for weight in layer.weights:
                depthwise = "depthwise_" if layer.__class__.__name__ == "DepthwiseConv2D" else ""
                group[f"{layer.name}/{depthwise}{weight.name}:0"] = np.asarray(weight)


@pytest.mark.parametrize(
    ("variant", "layout", "name"),
    [
        ("efficientnetv2-b0", "keras 3", "b0.weights.h5"),
        ("efficientnetv2-b0", "published", "efficientnetv2-b0.h5"),
        ("efficientnetv2-s", "legacy", "efficientnetv2-s.h5"),
    ],
)
def test_the_logits_equal_those_of_keras_for_images_that_keras_normalises_itself(
    networks, tmp_path, variant, layout, name
):
    save(networks[variant], tmp_path / name, layout)
    weights = load_weights(tmp_path / name, SPECS[variant])
    provenance = weights.provenance
    assert provenance.read_from == f"keras:{name}"
    assert (provenance.padding, provenance.bn_epsilon, provenance.num_classes) == ("same", 1e-3, 5)
    assert provenance.preprocessing == ("legacy" if variant.endswith("b0") else "v2")
    images = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    family = preprocessing_family(provenance.preprocessing)
    mean, std = (np.asarray(values, np.float32).reshape(1, 1, 1, 3) for values in (family.mean, family.std))
    expected = np.asarray(networks[variant](images))
    got = jax.jit(weights.model().apply)(weights.variables, (images - mean) / std)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_file_without_classifier_gets_a_new_one(networks, tmp_path):
    save(networks["efficientnetv2-b0"], tmp_path / "w.h5", "published")
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file["predictions"]
    with pytest.raises(ValueError, match="the file has no classifier"):
        load_weights(tmp_path / "w.h5", SPECS["efficientnetv2-b0"])
    assert load_weights(tmp_path / "w.h5", SPECS["efficientnetv2-b0"], num_classes=3).provenance.num_classes == 3


def test_a_file_of_another_network_is_refused(networks, tmp_path):
    save(networks["efficientnetv2-b0"], tmp_path / "w.h5", "legacy")
    with pytest.raises(ValueError, match=r"w\.h5: .*missing: block1b_project_conv/kernel"):
        load_weights(tmp_path / "w.h5", "efficientnetv2-s")


def link(file):
    file["a/kernel"] = h5py.ExternalLink("other.h5", "/a")


def soft_link(file):
    file["a/kernel"] = h5py.SoftLink("/b")


def compressed(file):
    file.create_dataset("a/kernel", data=np.zeros((1 << 20,), np.float32), compression="gzip")


def external(file):
    file.create_dataset("a/kernel", (4,), np.float32, external=[("/etc/hostname", 0, 16)])


def empty(file):
    file.create_dataset("a/kernel", (1 << 40,), np.float32)


def virtual(file):
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "a", (4,))
    file.create_virtual_dataset("a/kernel", layout)


def twice(file):
    file["a/kernel"] = np.zeros(4, np.float32)
    file["b"] = file["a"]


def whole_numbers(file):
    file["a/kernel"] = np.zeros(4, np.int32)


@pytest.mark.parametrize("make", [link, soft_link, compressed, external, empty, virtual, twice, whole_numbers])
def test_a_hostile_file_is_refused(tmp_path, make):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        make(file)
    with pytest.raises(ValueError, match=r"link|in pieces|data|twice|floating"), open_h5(tmp_path / "w.h5") as opened:
        opened.read("a/kernel")


def test_a_damaged_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["a/kernel"] = np.zeros(4, np.float32)
    content = (tmp_path / "w.h5").read_bytes()
    for damaged in (b"", b"no HDF5", content[: len(content) // 2]):
        (tmp_path / "w.h5").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"w\.h5 is damaged or not a file of Keras"), open_h5(tmp_path / "w.h5"):
            pass


def test_a_file_on_which_libhdf5_loops_for_ever_is_refused(tmp_path, monkeypatch):
    """The file's heap of texts, which begins with GCOL, has a free object of no size: libhdf5 does not get past it."""
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["layers/dense/vars/1"] = np.zeros(4, np.float32)
        file["layers/dense/vars"].attrs["name"] = "predictions"
    content = bytearray((tmp_path / "w.h5").read_bytes())
    size_of_rest = content.find(b"GCOL") + 16 + 16 + 16 + 8  # after the header, the text's header, the text, its number
    assert content[size_of_rest : size_of_rest + 2] != bytes(2)
    content[size_of_rest : size_of_rest + 2] = bytes(2)
    (tmp_path / "w.h5").write_bytes(content)
    monkeypatch.setattr(h5_file, "_SECONDS", 3)
    ended = r"libhdf5 has not read it within|was ended after"
    with pytest.raises(ValueError, match=ended), open_h5(tmp_path / "w.h5"):
        pass


def test_a_crash_of_libhdf5_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    (tmp_path / "reader.py").write_text("import os\nos.abort()\n")
    monkeypatch.setattr(h5_file, "_READER", tmp_path / "reader.py")
    (tmp_path / "w.h5").write_bytes(b"content")
    with pytest.raises(ValueError, match=r"w\.h5 is damaged .*crashed"), open_h5(tmp_path / "w.h5"):
        pass


def test_the_exit_codes_agree():
    assert h5_file._REFUSED == h5_reader.REFUSED
