"""Official checkpoints in every form, intact and damaged."""

import dataclasses
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from golden import reference
from golden.official_weights import input_images, moving_average_value, official_value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.weights import load_variables, load_weights

AVERAGE = "/ExponentialMovingAverage"
FILES = ("model.ckpt-0.index", "model.ckpt-0.data-00000-of-00001")


def load(path, **options):
    return load_weights(path, reference.TINY, framework="official", **options)


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """The tiny checkpoint as an archive, as a folder, and by its prefix or one of its files."""
    path = tmp_path_factory.mktemp("forms") / "efficientnetv2-tiny.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(reference.TINY_CHECKPOINT, "efficientnetv2-tiny")
    folder = reference.TINY_CHECKPOINT
    return {"tgz": path, "folder": folder, "prefix": folder / "model.ckpt-0", "file": folder / FILES[0]}


@pytest.mark.parametrize("form", ["tgz", "folder", "prefix", "file"])
def test_archives_folders_and_prefixes_give_the_averages_bit_for_bit(forms, form):
    weights = load(forms[form])
    assert reference.equal(weights.variables, reference.official_variables(reference.TINY, 10, moving_average=True))
    assert weights.provenance.averaging == "averaged"
    assert weights.provenance.read_from == f"official:{forms[form].name}"
    assert len(weights.provenance.read_from_sha256) == 64


@pytest.mark.parametrize(("moving_average", "key"), [(True, "logits_moving_average"), (False, "logits")])
def test_logits_of_the_checkpoint_equal_the_official_ones(moving_average, key):
    weights = load(reference.TINY_CHECKPOINT, moving_average=moving_average)
    expected = np.load(reference.FOLDER / "official_tiny_64.npz")[key]
    logits, _ = reference.network(reference.TINY, 10)(weights.variables, input_images(64))
    assert reference.relative(logits, expected) <= 5e-6


def test_another_variant_is_refused_with_the_names_of_tensors():
    with pytest.raises(ValueError, match=r"missing: blocks_\d.*misshapen: .* instead of"):
        load_weights(reference.TINY_CHECKPOINT, "efficientnetv2-b0", framework="official")


def write(folder: Path, values: dict) -> Path:
    """Writes a checkpoint of named tensors, with TensorFlow's own writer."""
    tf = pytest.importorskip("tensorflow")
    folder.mkdir(exist_ok=True)
    names = sorted(values)
    tf.raw_ops.SaveV2(
        prefix=str(folder / "model"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[values[name] for name in names],
    )
    return folder


def checkpoint(spec, num_classes, model="efficientnetv2-b0") -> dict:
    """The tensors of a checkpoint: the value by the rule, the average and a slot of each variable, and the step."""
    values = {"global_step": np.int64(7)}
    for name, shape in reference.framework_shapes("official", spec, num_classes).items():
        values[f"{model}/{name}"] = official_value(name, shape)
        values[f"{model}/{name}{AVERAGE}"] = moving_average_value(name, shape)
        values[f"{model}/{name}/RMSProp_1"] = np.zeros(shape, np.float32)
    return values


@pytest.fixture(scope="module")
def values():
    return checkpoint(reference.TINY, 10)


def test_optimiser_slots_and_the_step_are_ignored(tmp_path, values):
    loaded = load(write(tmp_path / "c", values), moving_average=False).variables
    assert reference.equal(loaded, reference.official_variables(reference.TINY, 10))


def test_the_classifier_is_found_under_the_name_of_another_keras_version(tmp_path, values):
    renamed = {name.replace("/head_1/dense/", "/head/dense/"): value for name, value in values.items()}
    assert reference.equal(load(write(tmp_path / "c", renamed)).variables, load(reference.TINY_CHECKPOINT).variables)


def test_two_classifiers_are_refused(tmp_path, values):
    both = values | {name.replace("/head_1/", "/head/"): value for name, value in values.items() if "/head_1/" in name}
    with pytest.raises(ValueError, match="two classifiers"):
        load(write(tmp_path / "c", both))


def test_a_missing_average_is_named(tmp_path, values):
    name = "efficientnetv2-b0/blocks_2/conv2d/kernel"
    raw = {key: value for key, value in values.items() if key != name + AVERAGE}
    folder = write(tmp_path / "c", raw)
    with pytest.raises(ValueError, match=f"no moving average of {name}; it may have raw weights"):
        load(folder)
    assert load(folder, moving_average=False).provenance.averaging == "raw"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: v.pop("efficientnetv2-b0/stem/tpu_batch_normalization/beta"),
            "1 missing: stem/.*/beta",
        ),
        (lambda v: v.update({"efficientnetv2-b0/blocks_99/conv2d/kernel": np.zeros(3)}), "1 unknown: blocks_99/conv2d"),
        (lambda v: v.update({"efficientnetv2-b0/head_1/dense/kernel": np.zeros((7, 10))}), r"is \[7, 10\] instead of"),
    ],
)
def test_missing_unknown_and_misshapen_variables_are_named(tmp_path, values, change, message):
    changed = {name: value for name, value in values.items() if AVERAGE not in name}
    change(changed)
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path / "c", changed), moving_average=False)


def test_widths_rounded_by_the_official_code_are_recognised_and_noted(tmp_path):
    published = VARIANTS["efficientnet-b3"].scaled(depth=0.1)
    rounded = dataclasses.replace(published, rounding="nearest")
    assert [block.features for block in published.blocks()] != [block.features for block in rounded.blocks()]
    folder = write(tmp_path / "c", checkpoint(rounded, 3, "efficientnet-b3"))
    weights = load_weights(folder, published, framework="official")
    assert weights.provenance.spec == rounded
    assert "rounding='nearest'" in weights.notes[0]
    with pytest.warns(UserWarning, match="rounding='nearest'"):
        load_variables(folder, published, framework="official")


@pytest.mark.parametrize("num_classes", [3, 0])
def test_a_new_head_replaces_the_old_one(num_classes):
    whole, changed = load(reference.TINY_CHECKPOINT), load(reference.TINY_CHECKPOINT, new_head=num_classes)
    head = whole.variables["params"].pop("classifier")
    fresh = changed.variables["params"].pop("classifier", None)
    assert reference.equal(whole.variables, changed.variables)
    assert set(changed.new) == ({"params/classifier/kernel", "params/classifier/bias"} if num_classes else set())
    assert changed.provenance.num_classes == num_classes
    if num_classes:
        assert fresh["kernel"].shape == (head["kernel"].shape[0], num_classes)
        assert 0.5 < np.abs(fresh["kernel"]).max() * num_classes**0.5 <= 1.0


def test_the_framework_is_found_from_the_format(forms):
    for path in forms.values():
        assert load_weights(path, reference.TINY).provenance.read_from == f"official:{path.name}"


@pytest.mark.parametrize("name", ["", FILES[0]])
def test_a_path_may_contain_brackets(tmp_path, name):
    shutil.copytree(reference.TINY_CHECKPOINT, tmp_path / "[v1]")
    assert load(tmp_path / "[v1]" / name).loaded


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", "does not exist"), ("nowhere.tgz", "does not exist"), (".", "contains no official weights")],
)
def test_a_path_without_a_checkpoint_is_refused(tmp_path, path, message):
    with pytest.raises(FileNotFoundError, match=message):
        load(tmp_path / path)


def test_several_checkpoints_are_refused_unless_the_file_checkpoint_names_the_latest(tmp_path):
    for name in FILES:
        for step in (0, 5):
            shutil.copy(reference.TINY_CHECKPOINT / name, tmp_path / name.replace("-0.", f"-{step}."))
    with pytest.raises(FileNotFoundError, match=r"found model\.ckpt-0, model\.ckpt-5"):
        load(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model.ckpt-5"\n')
    assert load(tmp_path).loaded


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_corruption_of_a_checkpoint_is_detected_or_harmless(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("case")
    name = data.draw(st.sampled_from(FILES))
    for file in FILES:
        shutil.copy(reference.TINY_CHECKPOINT / file, folder / file)
    content = (folder / name).read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=32))
    cut = data.draw(st.booleans())
    (folder / name).write_bytes(content[:position] + (b"" if cut else noise + content[position + len(noise) :]))
    try:
        variables = load(folder).variables
    except ValueError:
        return
    assert reference.equal(variables, reference.official_variables(reference.TINY, 10, moving_average=True))
