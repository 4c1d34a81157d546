"""`load_weights` and `save_variables` for every framework, and what they refuse."""

import copy
import dataclasses
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util
from golden import reference

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.frameworks.table import FRAMEWORKS
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.convert.weights import load_variables, load_weights, save_variables
from effnetv2_jax.model.provenance import Provenance

SPECS = {
    "timm": reference.TINY,
    "torchvision": VARIANTS["efficientnet-b0"].scaled(width=0.25, depth=0.3),
    "article": reference.ARTICLE_TINY,
    "flax": reference.TINY,
}


def change(path, function):
    """Changes the tensors of a file, which loses its header."""
    state = safetensors.numpy.load_file(path)
    function(state)
    safetensors.numpy.save_file(state, path)


def random_variables(spec, num_classes):
    rng = np.random.default_rng(0)
    tensors = network_tensors(spec, num_classes)
    flat = {tensor.path: rng.normal(size=tensor.shape).astype(np.float32) for tensor in tensors}
    return traverse_util.unflatten_dict(flat, sep="/")


@pytest.mark.parametrize("target", SPECS)
@pytest.mark.parametrize("num_classes", [10, 0])
def test_a_round_trip_is_identical_bit_for_bit(tmp_path, target, num_classes):
    path, spec = tmp_path / "w.safetensors", SPECS[target]
    variables = random_variables(spec, num_classes)
    save_variables(path, variables, spec, target=target)
    assert reference.equal(load_variables(path, spec, framework=target), variables)
    weights = load_weights(path)  # the file records framework and architecture
    assert reference.equal(weights.variables, variables)
    assert weights.provenance.spec == spec
    assert weights.provenance.num_classes == num_classes
    assert weights.provenance.read_from == f"{target}:w.safetensors"
    assert set(weights.loaded) == {tensor.path for tensor in network_tensors(spec, num_classes)}


@pytest.mark.parametrize("target", SPECS)
def test_the_framework_of_a_downloaded_file_is_found_from_its_names(tmp_path, target):
    path, spec = tmp_path / "w.safetensors", SPECS[target]
    variables = random_variables(spec, 10)
    save_variables(path, variables, spec, target=target)
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, {"framework": "pt"})
    weights = load_weights(path, spec)
    assert reference.equal(weights.variables, variables)
    assert weights.provenance.read_from == f"{target}:w.safetensors"


def test_a_file_whose_framework_cannot_be_found_is_refused(timm_file):
    change(timm_file, lambda state: state.pop("conv_stem.weight"))
    with pytest.raises(
        ValueError, match=r"timm\.safetensors: .* its framework.* official, timm, torchvision, keras, article"
    ):
        load_weights(timm_file, reference.TINY)


@pytest.mark.parametrize("target", ["timm", "torchvision", "article"])
def test_torch_files_have_every_entry_of_a_state_dict_and_no_other(tmp_path, target):
    spec = SPECS[target]
    save_variables(tmp_path / "w.safetensors", random_variables(spec, 10), spec, target=target)
    state = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    counters = FRAMEWORKS[target].counter_names(network_tensors(spec, 10))
    assert state.keys() == reference.framework_shapes(target, spec, 10).keys() | set(counters)
    assert all(state[name].dtype == np.int64 and state[name].shape == () for name in counters)


def test_jax_arrays_and_bfloat16_are_saved_as_float32(tmp_path, tiny):
    narrow = copy.deepcopy(tiny)
    narrow["params"]["stem_conv"]["kernel"] = jnp.asarray(tiny["params"]["stem_conv"]["kernel"], jnp.bfloat16)
    save_variables(tmp_path / "w.safetensors", narrow, reference.TINY)
    kernel = load_variables(tmp_path / "w.safetensors", reference.TINY)["params"]["stem_conv"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, np.asarray(narrow["params"]["stem_conv"]["kernel"], np.float32))


def drop(variables):
    del variables["batch_stats"]["block_3"]["expand_norm"]["mean"]


def add(variables):
    variables["params"]["block_77"] = {"kernel": np.zeros(3)}


def bend(variables):
    variables["params"]["stem_conv"]["kernel"] = np.zeros((3, 3, 1, 8))


FAULTS = {
    drop: "1 missing: batch_stats/block_3/expand_norm/mean",
    add: "1 unknown: params/block_77/kernel",
    bend: r"1 misshapen: params/stem_conv/kernel is \[3, 3, 1, 8\] instead of \[3, 3, 3, 8\]",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("target", ["timm", "flax"])
def test_faulty_variables_are_refused_by_name_and_nothing_is_written(tmp_path, tiny, fault, target):
    variables = copy.deepcopy(tiny)
    fault(variables)
    with pytest.raises(ValueError, match=FAULTS[fault]):
        save_variables(tmp_path / "w.safetensors", variables, reference.TINY, target=target)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            lambda s: s.pop("blocks.1.0.bn1.running_var"),
            r"timm\.safetensors: 1 missing: blocks\.1\.0\.bn1\.running_var",
        ),
        (lambda s: s.update(extra=np.zeros(3, np.float32)), "1 unknown: extra"),
        (lambda s: s.update({"bn1.weight": np.zeros(9, np.float32)}), r"bn1\.weight is \[9\] instead of \[8\]"),
        (lambda s: s.update({"bn1.weight": np.zeros(8, np.int32)}), r"bn1\.weight is int32"),
        (lambda s: s.update({"classifier.bias": np.zeros((2, 5), np.float32)}), r"unknown: classifier"),
    ],
)
@pytest.mark.parametrize("framework", ["timm", None])
def test_faulty_files_are_refused_by_the_name_of_the_tensor(timm_file, fault, message, framework):
    change(timm_file, fault)
    with pytest.raises(ValueError, match=message):
        load_variables(timm_file, reference.TINY, framework=framework)


def test_the_counters_of_a_state_dict_may_be_absent(timm_file, tiny):
    def without_counters(state):
        for name in [name for name, value in state.items() if not value.shape]:
            del state[name]

    change(timm_file, without_counters)
    assert reference.equal(load_variables(timm_file, reference.TINY, framework="timm"), tiny)


def test_a_wrong_framework_is_refused_with_the_right_one(saved):
    with pytest.raises(ValueError, match="its names are those of flax"):
        load_variables(saved, reference.TINY, framework="timm")


def test_a_framework_without_such_a_network_is_refused(saved):
    with pytest.raises(ValueError, match=r"article has no network.*: official, timm, torchvision, keras, flax"):
        load_variables(saved, reference.TINY, framework="article")


def test_a_file_of_another_variant_is_refused(saved):
    with pytest.raises(ValueError, match=r"of efficientnetv2-b0 \(width ×0.25, depth ×0.3\), not of efficientnetv2-s"):
        load_variables(saved, "efficientnetv2-s")


@pytest.mark.parametrize("framework", ["timm", None])
def test_a_file_without_a_provenance_needs_a_variant(timm_file, framework):
    with pytest.raises(ValueError, match="does not record its variant"):
        load_variables(timm_file, framework=framework)


def test_a_default_variant_is_for_files_that_record_none(saved, timm_file, tiny):
    assert reference.equal(load_weights(timm_file, default_variant=reference.TINY).variables, tiny)
    assert load_weights(saved, default_variant="efficientnetv2-s").provenance.spec == reference.TINY
    with pytest.raises(ValueError, match="missing"):
        load_weights(timm_file, default_variant="efficientnetv2-b0", framework="timm")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "efficientnetv2-z"}, "unknown variant"),
        ({"framework": "mxnet"}, "unknown framework 'mxnet'.*official, timm"),
        ({"new_head": -1}, "new_head must be"),
        ({"num_classes": -1}, "num_classes must be"),
        ({"new_head": 3, "num_classes": 4}, "not both; got 3 and 4"),
    ],
)
def test_bad_arguments_are_refused(saved, options, message):
    with pytest.raises(ValueError, match=message):
        load_weights(saved, **({"variant": reference.TINY} | options))


@pytest.mark.parametrize("framework", [*FRAMEWORKS, None])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.tgz", "a.h5", "a.index", "run", "run/checkpoints/3"])
def test_a_missing_file_is_reported_before_anything_else(tmp_path, framework, name):
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist"):
        load_weights(tmp_path / name, framework=framework)  # the variant is not known either


def test_a_missing_pth_file_is_reported_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(FileNotFoundError, match=r"a\.pth does not exist"):
        load_weights(tmp_path / "a.pth", reference.TINY, framework="timm")


@pytest.mark.parametrize("framework", ["timm", None])
def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path, framework):
    (tmp_path / "w.npz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"w\.npz: .*weights come as .*\.safetensors file, .*\.pth"):
        load_variables(tmp_path / "w.npz", reference.TINY, framework=framework)


def test_a_format_of_another_framework_is_refused(saved, tmp_path):
    with pytest.raises(ValueError, match=r"w\.safetensors: official weights come as a TensorFlow checkpoint"):
        load_variables(saved, reference.TINY, framework="official")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match="folder contains no timm weights"):
        load_variables(tmp_path / "folder", reference.TINY, framework="timm")


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("w.pth", "timm", r"\.safetensors files, not to \.pth"),
        ("folder", "torchvision", "not to a folder"),
        ("run", "timm", "run is the folder of a run"),
        ("w.safetensors", "article", "article has no network"),
        ("w.safetensors", "official", "unknown target 'official'"),
    ],
)
def test_bad_targets_are_refused_before_anything_is_written(tmp_path, tiny, name, target, message):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        save_variables(tmp_path / name, tiny, reference.TINY, target=target)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_for_a_network_that_timm_cannot_build_is_refused_with_the_reason(tmp_path):
    spec = VARIANTS["efficientnetv2-m"].scaled(width=0.5, depth=0.1)
    message = r"folder: timm cannot build .*\.safetensors file: tf_efficientnetv2_m\(.*\) has 1280 channels in its head"
    with pytest.raises(ValueError, match=message):
        save_variables(tmp_path / "folder", random_variables(spec, 3), spec, target="timm")
    assert list(tmp_path.iterdir()) == []


def test_a_provenance_is_recorded_and_checked(tmp_path, tiny):
    provenance = Provenance(
        reference.TINY, 10, "symmetric", 1e-5, "averaged", "finetune", 96, tuple("abcdefghij"), "letters"
    )
    save_variables(tmp_path / "w.safetensors", tiny, reference.TINY, target="timm", provenance=provenance)
    weights = load_weights(tmp_path / "w.safetensors", framework="timm")
    assert dataclasses.replace(weights.provenance, read_from="", read_from_sha256="", exact=None) == provenance
    assert weights.provenance.exact is False  # timm uses other padding
    assert (weights.model().padding, weights.model().bn_epsilon) == ("symmetric", 1e-5)
    other = weights.model(num_classes=4, padding="same")
    assert (other.num_classes, other.padding, other.bn_epsilon) == (4, "same", 1e-5)
    with pytest.raises(ValueError, match="the provenance is that of"):
        save_variables(tmp_path / "w.safetensors", tiny, "efficientnetv2-s", provenance=provenance)


def test_a_failed_write_leaves_the_old_file(saved, tiny):
    before = saved.read_bytes()

    class Breaks:
        shape = (3, 3, 3, 8)

        def __array__(self, dtype=None, copy=None):
            raise OSError("disk full")

    variables = copy.deepcopy(tiny)
    variables["params"]["stem_conv"]["kernel"] = Breaks()
    with pytest.raises(OSError, match="disk full"):
        save_variables(saved, variables, reference.TINY)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
