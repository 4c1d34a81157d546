"""Exports: each program is run in its runtime, describes itself, and appears only if it is right."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import onnx
import pytest
import tensorflow as tf
from export.networks import NAMES, PIXELS, SIDE, expected, weights
from golden import reference
from PIL import Image

from effnetv2_jax import export_model
from effnetv2_jax.convert.weights import load_weights, save_variables
from effnetv2_jax.data.images.families import FAMILIES
from effnetv2_jax.export import exporter, verification
from effnetv2_jax.export.files import saved_model
from effnetv2_jax.export.formats import format_of
from effnetv2_jax.predict.classifier import classify

PHOTO = reference.FOLDER / "photo.jpg"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a program in each format, and the results of the exports."""
    folder = tmp_path_factory.mktemp("exports")
    files = {"stablehlo": "n.stablehlo", "savedmodel": "n", "tflite": "n.tflite", "onnx": "n.onnx"}
    return folder, {name: export_model(weights(), folder / file, to=name) for name, file in files.items()}


def test_each_program_gives_the_logits_for_batches_of_any_size(exported):
    _, exports = exported
    for name, export in exports.items():
        assert all(check.passed for check in export.checks), name
        program = format_of(export.path).load(export.path)
        assert (program.image_shape, program.image_dtype, program.runtime) == (
            (SIDE, SIDE, 3),
            np.uint8,
            export.runtime,
        )
        for batch in (3, 1):
            assert reference.relative(program.run(PIXELS[:batch]), expected()[:batch]) < 1e-5, name


def test_only_the_programs_are_left(exported):
    folder, exports = exported
    assert sorted(folder.iterdir()) == sorted(export.path for export in exports.values())
    for export in exports.values():
        assert export.size_bytes == exporter.byte_size(export.path) > 4 * 20_000


def test_each_program_records_class_names_and_provenance(exported):
    _, exports = exported
    described = {entry.key: entry.value for entry in onnx.load(exports["onnx"].path).metadata_props}
    assert json.loads(described["class_names"]) == list(NAMES)
    for name in ("stablehlo", "tflite"):
        with zipfile.ZipFile(exports[name].path) as archive:
            assert archive.read("labels.txt").decode().splitlines() == list(NAMES)
            assert json.loads(archive.read("model.json")) == described
    extra = exports["savedmodel"].path / "assets.extra"
    assert (extra / "labels.txt").read_text().splitlines() == list(NAMES)
    assert json.loads((extra / "model.json").read_text()) == described
    assert described["batch_norm"] == "folded"
    assert json.loads(described["mean"]) == [128.0] * 3
    assert described["eval_size"] == str(SIDE)


def test_a_process_without_this_project_runs_the_stablehlo_program(exported, tmp_path):
    _, exports = exported
    np.save(tmp_path / "pixels.npy", PIXELS)
    code = """
import sys
sys.modules["effnetv2_jax"] = sys.modules["flax"] = None
import jax, numpy
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
assert set(program.platforms) == {"cpu", "cuda", "tpu"}
numpy.save("logits.npy", program.call(numpy.load("pixels.npy")))
"""
    command = [sys.executable, "-c", code, exports["stablehlo"].path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert reference.relative(np.load(tmp_path / "logits.npy"), expected()) < 1e-5


def test_stablehlo_in_bfloat16_can_take_normalised_images(tmp_path):
    path = tmp_path / "n.stablehlo"
    export = export_model(weights(), path, to="stablehlo", dtype="bfloat16", normalises=False, fold_batch_norm=False)
    [check] = export.checks
    assert 1e-4 < check.value < check.bound == 0.05
    assert format_of(path).load(path).image_dtype == np.float32
    with zipfile.ZipFile(path) as archive:
        description = json.loads(archive.read("model.json"))
    assert description["input"].startswith("normalised RGB images, float32")
    assert description["batch_norm"] == "kept"


@pytest.mark.parametrize("preprocessing", FAMILIES)
def test_the_saved_model_classifies_encoded_images_as_predict_does(tmp_path, preprocessing):
    made = weights(preprocessing=preprocessing)
    export = export_model(made, tmp_path / "n", to="savedmodel")
    assert len(export.checks) == 2
    Image.open(PHOTO).save(tmp_path / "photo.png")
    for file in (PHOTO, tmp_path / "photo.png"):
        [prediction] = classify(made, [file])
        classes, probabilities = saved_model.serve(tmp_path / "n", file.read_bytes())
        assert classes == [guess.name for guess in prediction.guesses]
        np.testing.assert_allclose(probabilities, [guess.probability for guess in prediction.guesses], atol=1e-4)


def test_the_saved_model_serves_several_encoded_images(exported):
    serve = tf.saved_model.load(str(exported[1]["savedmodel"].path)).signatures["serving_default"]
    one, two = (serve(encoded=tf.constant([PHOTO.read_bytes()] * count)) for count in (1, 2))
    assert two["classes"].shape == two["probabilities"].shape == (2, 5)
    np.testing.assert_allclose(two["probabilities"], np.repeat(one["probabilities"], 2, 0), rtol=1e-5)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Files with parts of a photograph."""
    folder = tmp_path_factory.mktemp("calibration")
    with Image.open(PHOTO) as photo:
        for index in range(8):
            left, top = 12 * index, 9 * index
            photo.crop((left, top, left + 70 + 10 * index, top + 60)).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def test_int8_keeps_the_classes_of_the_calibration_images_in_a_smaller_file(exported, photographs, tmp_path):
    path = tmp_path / "n8.tflite"
    export = export_model(weights(), path, to="tflite", dtype="int8", calibration=photographs, least_agreement=0.75)
    [check] = export.checks
    assert check.measure == "agreement"
    assert check.value >= 0.75
    assert "8 calibration images" in check.text
    assert export.size_bytes < 0.6 * exported[1]["tflite"].size_bytes
    program = format_of(path).load(path)
    assert program.image_dtype == np.uint8
    assert reference.relative(program.run(PIXELS), expected()) < 0.2


def test_a_program_that_differs_too_much_is_not_left_behind(tmp_path, monkeypatch, photographs):
    monkeypatch.setitem(verification.BOUNDS, "float32", 0.0)
    with pytest.raises(ValueError, match=r"nothing was written: largest difference .* \(at most 0\): TOO FAR"):
        export_model(weights(), tmp_path / "n.onnx", to="onnx")
    monkeypatch.setattr(exporter, "compare_classes", lambda *_: verification.Check("agreement", 0.5, 0.9, "classes"))
    with pytest.raises(ValueError, match=r"nothing was written: classes \(at least 0.9\): TOO FAR"):
        export_model(weights(), tmp_path / "n.tflite", to="tflite", dtype="int8", calibration=photographs[:1])
    assert list(tmp_path.iterdir()) == []


def test_nan_is_too_far():
    assert not verification.Check("difference", float("nan"), 1.0, "").passed
    assert not verification.Check("agreement", float("nan"), 0.0, "").passed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"to": "tensorrt"}, "unknown export format 'tensorrt'; allowed: stablehlo, savedmodel, tflite, onnx"),
        ({"to": "onnx", "dtype": "int8"}, "the format onnx computes in float32, not in int8"),
        ({"to": "tflite", "dtype": "bfloat16"}, "the format tflite computes in float32 or int8, not in bfloat16"),
        ({"to": "onnx", "normalises": False}, "only stablehlo can leave it out"),
        ({"to": "tflite", "dtype": "int8"}, "int8 and calibration images go together"),
        ({"to": "tflite", "calibration": [PHOTO]}, "int8 and calibration images go together"),
        ({"to": "onnx", "least_agreement": 90}, "least_agreement must be 0 to 1, got 90"),
        ({"to": "stablehlo"}, "n.onnx: the format stablehlo is written to a .stablehlo file"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        export_model(weights(), tmp_path / "n.onnx", **fields)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "why"), [("none.jpg", "does not exist"), ("", "is a folder without images")])
def test_a_calibration_image_that_is_not_there_is_named(tmp_path, name, why):
    with pytest.raises(FileNotFoundError, match=f"calibration images: .*{name} {why}"):
        export_model(weights(), tmp_path / "n.tflite", to="tflite", dtype="int8", calibration=[tmp_path / name])


def test_weights_without_a_classifier_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no classifier"):
        export_model(weights(classes=0), tmp_path / "n.onnx", to="onnx")


def test_an_existing_path_and_a_bucket_are_refused(tmp_path):
    (tmp_path / "n.onnx").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        export_model(weights(), tmp_path / "n.onnx", to="onnx")
    assert (tmp_path / "n.onnx").read_text() == "mine"
    with pytest.raises(ValueError, match="local path"):
        export_model(weights(), "gs://bucket/n.onnx", to="onnx")


def test_weights_from_a_file_are_exported_with_its_size(tmp_path):
    made = weights()
    save_variables(tmp_path / "w.safetensors", made.variables, made.provenance.spec, provenance=made.provenance)
    export = export_model(load_weights(tmp_path / "w.safetensors"), tmp_path / "n.onnx", to="onnx")
    assert format_of(export.path).load(export.path).image_shape == (SIDE, SIDE, 3)
