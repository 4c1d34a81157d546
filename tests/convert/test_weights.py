"""`load_variables` and `save_variables`: every direction, every refusal."""

import copy
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util
from golden import reference

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.formats.pth_file import counter_names
from effnetv2_jax.convert.names import tensor_rows
from effnetv2_jax.convert.weights import load_variables, load_weights, save_variables
from effnetv2_jax.model.provenance import Provenance

SPECS = {
    "timm": reference.TINY,
    "torchvision": VARIANTS["efficientnet-b0"].scaled(width=0.25, depth=0.3),
    "article": reference.ARTICLE_TINY,
    "flax": reference.TINY,
}


@pytest.fixture
def saved(tmp_path, tiny):
    """A file of ours."""
    save_variables(tmp_path / "w.safetensors", tiny, reference.TINY)
    return tmp_path / "w.safetensors"


def random_variables(spec, num_classes):
    rng = np.random.default_rng(0)
    rows = tensor_rows(spec, num_classes)
    return traverse_util.unflatten_dict({r.path: rng.normal(size=r.shape).astype(np.float32) for r in rows}, sep="/")


@pytest.mark.parametrize("target", SPECS)
@pytest.mark.parametrize("num_classes", [10, 0])
def test_there_and_back_bit_for_bit(tmp_path, target, num_classes):
    spec = SPECS[target]
    variables = random_variables(spec, num_classes)
    save_variables(tmp_path / "w.safetensors", variables, spec, target=target)
    assert reference.equal(load_variables(tmp_path / "w.safetensors", spec, source=target), variables)
    weights = load_weights(tmp_path / "w.safetensors", source=target)  # the file knows its spec
    assert weights.provenance.spec == spec
    assert weights.provenance.num_classes == num_classes
    assert set(weights.loaded) == {row.path for row in tensor_rows(spec, num_classes)}


@pytest.mark.parametrize("target", ["timm", "torchvision", "article"])
def test_torch_files_have_every_entry_of_a_state_dict_and_no_other(tmp_path, target):
    spec = SPECS[target]
    save_variables(tmp_path / "w.safetensors", random_variables(spec, 10), spec, target=target)
    state = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    rows = tensor_rows(spec, 10)
    counters = counter_names(rows, target)
    assert state.keys() == {row.name(target) for row in rows} | set(counters)
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
    bend: r"1 misshapen: params/stem_conv/kernel is \[3, 3, 1, 8\] in place of \[3, 3, 3, 8\]",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("target", ["timm", "flax"])
def test_faulty_variables_are_named_and_nothing_is_written(tmp_path, tiny, fault, target):
    variables = copy.deepcopy(tiny)
    fault(variables)
    with pytest.raises(ValueError, match=FAULTS[fault]):
        save_variables(tmp_path / "w.safetensors", variables, reference.TINY, target=target)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("blocks.1.0.bn1.running_var"), r"w\.safetensors: 1 missing: blocks\.1\.0\.bn1\.running_var"),
        (lambda s: s.update(extra=np.zeros(3, np.float32)), "1 unknown: extra"),
        (lambda s: s.update({"bn1.weight": np.zeros(9, np.float32)}), r"bn1\.weight is \[9\] in place of \[8\]"),
        (lambda s: s.update({"bn1.weight": np.zeros(8, np.int32)}), r"bn1\.weight is int32"),
        (lambda s: s.update({"classifier.bias": np.zeros((2, 5), np.float32)}), r"unknown: classifier"),
    ],
)
def test_faulty_files_are_named(tmp_path, tiny, change, message):
    path = tmp_path / "w.safetensors"
    save_variables(path, tiny, reference.TINY, target="timm")
    state = safetensors.numpy.load_file(path)
    change(state)
    safetensors.numpy.save_file(state, path)
    with pytest.raises(ValueError, match=message):
        load_variables(path, reference.TINY, source="timm")


def test_the_counters_of_a_state_dict_may_be_absent(tmp_path, tiny):
    path = tmp_path / "w.safetensors"
    save_variables(path, tiny, reference.TINY, target="timm")
    state = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({name: value for name, value in state.items() if value.shape}, path)
    assert reference.equal(load_variables(path, reference.TINY, source="timm"), tiny)


def test_the_wrong_source_is_recognised(saved):
    with pytest.raises(ValueError, match="its names are those of flax"):
        load_variables(saved, reference.TINY, source="timm")


def test_a_file_of_another_variant_is_refused(saved):
    with pytest.raises(ValueError, match=r"holds efficientnetv2-b0 \(width ×0.25, depth ×0.3\), not efficientnetv2-s"):
        load_variables(saved, "efficientnetv2-s")


def test_a_foreign_file_needs_a_variant(tmp_path, tiny):
    path = tmp_path / "w.safetensors"
    save_variables(path, tiny, reference.TINY, target="timm")
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path)
    with pytest.raises(ValueError, match="does not say which variant"):
        load_variables(path, source="timm")


@pytest.mark.parametrize("num_classes", [4, 0])
def test_a_new_head_is_new_and_the_rest_is_loaded(saved, tiny, num_classes):
    weights = load_weights(saved, new_head=num_classes)
    expected = copy.deepcopy(tiny)
    del expected["params"]["classifier"]
    head = weights.variables["params"].pop("classifier", None)
    assert reference.equal(weights.variables, expected)
    assert len(weights.new) == (2 if num_classes else 0)
    assert not set(weights.new) & set(weights.loaded)
    assert weights.model().num_classes == num_classes
    if num_classes:
        assert head["kernel"].shape == (320, num_classes)
        assert not head["bias"].any()
        same, other = (load_weights(saved, new_head=num_classes, seed=seed).variables for seed in (0, 1))
        np.testing.assert_array_equal(head["kernel"], same["params"]["classifier"]["kernel"])
        assert not np.array_equal(head["kernel"], other["params"]["classifier"]["kernel"])


def test_an_absent_head_is_never_passed_over(tmp_path, tiny):
    path = tmp_path / "w.safetensors"
    save_variables(path, tiny, reference.TINY, target="timm")
    state = {k: v for k, v in safetensors.numpy.load_file(path).items() if not k.startswith("classifier")}
    safetensors.numpy.save_file(state, path)
    with pytest.raises(ValueError, match="no classifier: ask for a new head, or for none"):
        load_variables(path, reference.TINY, source="timm")
    assert "classifier" not in load_variables(path, reference.TINY, source="timm", new_head=0)["params"]


def test_half_a_head_is_refused(tmp_path, tiny):
    path = tmp_path / "w.safetensors"
    save_variables(path, tiny, reference.TINY, target="timm")
    state = {k: v for k, v in safetensors.numpy.load_file(path).items() if k != "classifier.bias"}
    safetensors.numpy.save_file(state, path)
    with pytest.raises(ValueError, match=r"1 unknown: classifier\.weight"):
        load_variables(path, reference.TINY, source="timm", new_head=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "efficientnetv2-z"}, "unknown variant"),
        ({"source": "keras"}, "unknown source 'keras'; known sources: official, timm"),
        ({"new_head": -1}, "new_head must be"),
    ],
)
def test_bad_arguments_of_load(saved, options, message):
    with pytest.raises(ValueError, match=message):
        load_variables(saved, **({"variant": reference.TINY} | options))


@pytest.mark.parametrize("source", ["flax", "timm", "torchvision", "article"])
def test_a_missing_file(tmp_path, source):
    with pytest.raises(FileNotFoundError):
        load_variables(tmp_path / "nowhere.safetensors", reference.TINY, source=source)


def test_an_unknown_format(tmp_path):
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"w\.h5: timm weights come in \.safetensors, \.pth"):
        load_variables(tmp_path / "w.h5", reference.TINY, source="timm")


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("w.pth", "timm", r"written to \.safetensors files, not \.pth"),
        ("folder", "torchvision", "only timm's also to a folder"),
        ("folder", "timm", "timm has no name for"),
        ("w.safetensors", "article", "no network of article"),
        ("w.safetensors", "official", "unknown target 'official'"),
    ],
)
def test_bad_targets_are_refused_before_anything_is_written(tmp_path, tiny, name, target, message):
    with pytest.raises(ValueError, match=message):
        save_variables(tmp_path / name, tiny, reference.TINY, target=target)
    assert list(tmp_path.iterdir()) == []


def test_provenance_travels_and_is_checked(tmp_path, tiny):
    facts = Provenance(
        reference.TINY, 10, "symmetric", 1e-5, "averaged", "finetune", 96, tuple("abcdefghij"), "letters"
    )
    save_variables(tmp_path / "w.safetensors", tiny, reference.TINY, target="timm", provenance=facts)
    weights = load_weights(tmp_path / "w.safetensors", source="timm")
    stored = dataclasses.replace(weights.provenance, source="", source_sha256="", exact=None)
    assert stored == facts
    assert weights.provenance.exact is False  # timm would pad otherwise
    assert (weights.model().padding, weights.model().bn_epsilon) == ("symmetric", 1e-5)
    with pytest.raises(ValueError, match="the provenance is that of"):
        save_variables(tmp_path / "w.safetensors", tiny, "efficientnetv2-s", provenance=facts)


def test_a_failed_write_leaves_the_old_file(saved, tiny, monkeypatch):
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
