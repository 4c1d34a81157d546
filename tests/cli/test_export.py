"""`effnetv2 export`, and `effnetv2 bench --exports`, as a user calls them."""

import json

import onnx
import pytest
from export.networks import NAMES, weights
from golden import reference

from effnetv2_jax.cli.main import main
from effnetv2_jax.convert.weights import save_variables

PHOTO = reference.FOLDER / "photo.jpg"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    made = weights()
    save_variables(path, made.variables, made.provenance.spec, provenance=made.provenance)
    return path


def export(*arguments):
    return main(["export", *map(str, arguments)])


def test_the_result_names_the_runtime_and_the_largest_difference(checkpoint, tmp_path, capsys):
    out = tmp_path / "n.onnx"
    assert export(checkpoint, out, "--to", "onnx") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"wrote {out}, 0.3 MB, and ran it in ONNX Runtime ")
    assert second.startswith("largest difference of logits in ONNX Runtime ")
    assert second.endswith("against this project's network in float32 with its BatchNorm (at most 0.0001): ok")


def test_options_reach_the_program_and_json_has_the_checks(checkpoint, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("\n".join(name.upper() for name in NAMES))
    options = ("--eval-size", 33, "--preprocessing", "legacy", "--class-names", tmp_path / "names.txt")
    assert export(checkpoint, tmp_path / "n.onnx", "--to", "onnx", "--json", "--keep-batch-norm", *options) == 0
    result = json.loads(capsys.readouterr().out)
    [check] = result["checks"]
    assert check["measure"] == "difference"
    assert check["value"] <= check["bound"] == 1e-4
    assert result["bytes"] == (tmp_path / "n.onnx").stat().st_size
    model = onnx.load(tmp_path / "n.onnx")
    described = {entry.key: entry.value for entry in model.metadata_props}
    assert described["preprocessing"] == "legacy"
    assert json.loads(described["class_names"]) == [name.upper() for name in NAMES]
    assert "BatchNormalization" in {node.op_type for node in model.graph.node}
    assert [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim][1:] == [33, 33, 3]


def test_int8_takes_calibration_images(checkpoint, tmp_path, capsys):
    int8 = ("--to", "tflite", "--dtype", "int8", "--least-agreement", 0)
    assert export(checkpoint, tmp_path / "n.tflite", *int8, "--calibration", PHOTO) == 0
    assert "of 1 calibration images keep their most probable class" in capsys.readouterr().out
    assert export(checkpoint, tmp_path / "m.tflite", *int8) == 2
    assert "--dtype int8 and --calibration IMAGE… go together" in capsys.readouterr().err


def test_bench_times_exports(checkpoint, tmp_path, capsys):
    export(checkpoint, tmp_path / "n.onnx", "--to", "onnx")
    capsys.readouterr()
    assert main(["bench", "--exports", str(tmp_path / "n.onnx"), "--batch", "2", "--seconds", "0.01", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["file"], row["format"], row["batch_size"]) == ("n.onnx", "onnx", 2)
    assert row["bytes"] == (tmp_path / "n.onnx").stat().st_size
    assert min(row["load_seconds"], row["latency_seconds"], row["images_per_second"]) > 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("{weights}", "{folder}/n.onnx", "--to", "tensorrt"), 2, "invalid choice: 'tensorrt'"),
        (("{weights}", "{weights}", "--to", "onnx"), 1, "is written to a .onnx file"),
        (("{weights}", "{folder}", "--to", "savedmodel"), 1, "exists already; remove it or name another path"),
        (("{weights}", "gs://b/n.onnx", "--to", "onnx"), 1, "an export is written to a local path"),
        (("{weights}", "{folder}/n.onnx", "--to", "onnx", "--eval-size", "9"), 1, "images of at least 17 px, got 9"),
        (("{weights}", "{folder}/n.onnx", "--to", "onnx", "--dtype", "bfloat16"), 1, "computes in float32, not in bf"),
        (("{folder}/none", "{folder}/n.onnx", "--to", "onnx"), 1, "none"),
    ],
)
def test_wrong_input_is_refused_in_one_line(checkpoint, tmp_path, capsys, arguments, code, message):
    words = [word.format(weights=checkpoint, folder=tmp_path) for word in arguments]
    try:
        got = export(*words)
    except SystemExit as exit:
        got = exit.code
    assert got == code
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [(), ("--config", "configs/smoke.py", "--exports", "n.onnx")])
def test_bench_takes_one_thing_to_time(capsys, words):
    assert main(["bench", *words]) == 2
    assert "give one of --config, to time a training, --exports" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("n.tflite", "junk", "is no program of TensorFlow Lite"),
        ("n.onnx", "junk", "is no model that ONNX Runtime can load"),
        ("n.stablehlo", "junk", "is not a StableHLO program that jax.export wrote"),
        ("n.zip", "junk", "is no exported network: those are folders, or end with .stablehlo, .tflite, .onnx"),
        ("n", None, "is no SavedModel"),
        ("none.onnx", None, "does not exist"),
    ],
)
def test_bench_refuses_what_is_no_export(tmp_path, capsys, name, content, message):
    if content:
        (tmp_path / name).write_text(content * 50)
    elif "." not in name:
        (tmp_path / name).mkdir()
    assert main(["bench", "--exports", str(tmp_path / name)]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_predict_with_folded_batch_norm_gives_the_same_probabilities(checkpoint, capsys):
    results = []
    for option in ((), ("--fold-batch-norm",)):
        assert main(["predict", "--checkpoint", str(checkpoint), "--json", *option, str(PHOTO)]) == 0
        results.append(json.loads(capsys.readouterr().out)[0]["top"])
    kept, folded = results
    assert [guess["name"] for guess in folded] == [guess["name"] for guess in kept]
    assert [guess["probability"] for guess in folded] == pytest.approx(
        [guess["probability"] for guess in kept], rel=1e-4
    )
