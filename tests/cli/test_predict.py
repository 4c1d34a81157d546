"""`effnetv2 predict`, as a user calls it."""

import json
import shutil
import warnings

import numpy as np
import pytest
from golden import reference
from PIL import Image

from effnetv2_jax.cli.main import main
from effnetv2_jax.convert.weights import load_weights, save_variables
from effnetv2_jax.data.images.families import FAMILIES
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.predict import classifier, picture
from effnetv2_jax.predict.images import evaluation_image, read_image

PHOTO = reference.FOLDER / "photo.jpg"
NAMES = tuple(f"digit {index}" for index in range(10))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of the tiny network with class names and a preprocessing."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    provenance = Provenance(reference.TINY, 10, "same", 1e-3, "averaged", "finetune", 64, NAMES)
    variables = reference.official_variables(reference.TINY, 10, moving_average=True)
    variables["params"]["classifier"]["kernel"] *= 10  # probabilities that differ
    save_variables(path, variables, reference.TINY, provenance=provenance)
    return path


def expected(weights, preprocessing="finetune"):
    """The probabilities of the photo, computed step by step."""
    image = evaluation_image(read_image(PHOTO), FAMILIES[preprocessing], 64)
    logits, _ = reference.network(reference.TINY, 10)(load_weights(weights).variables, image[None])
    exponents = np.exp(np.asarray(logits[0], np.float64))
    return exponents / exponents.sum()


def predict(*arguments):
    return main(["predict", *map(str, arguments)])


def test_json_has_the_most_probable_classes_with_the_recorded_preprocessing(weights, capsys):
    assert predict("--checkpoint", weights, "--json", PHOTO) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert result["image"] == str(PHOTO)
    probabilities = expected(weights)
    order = np.argsort(-probabilities)[:5]
    assert [guess["index"] for guess in result["top"]] == list(order)
    assert [guess["name"] for guess in result["top"]] == [NAMES[index] for index in order]
    np.testing.assert_allclose([guess["probability"] for guess in result["top"]], probabilities[order], rtol=1e-5)


def test_a_given_preprocessing_replaces_the_recorded_one(weights, capsys):
    predict("--checkpoint", weights, "--json", "--top", 1, "--preprocessing", "v2", PHOTO)
    [result] = json.loads(capsys.readouterr().out)
    assert result["top"][0]["probability"] == pytest.approx(expected(weights, "v2").max(), rel=1e-5)


def test_the_table_has_a_line_for_each_class(weights, capsys):
    assert predict("--checkpoint", weights, "--top", 2, PHOTO) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(PHOTO)
    assert len(lines) == 3
    assert "digit" in lines[1]
    assert "%" in lines[1]


def test_predictions_keep_the_order_of_the_images_and_do_not_depend_on_batches(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(classifier, "_BATCH", 2)
    paths = []
    for index in range(3):
        Image.fromarray(np.full((20, 30, 3), 60 * index, np.uint8)).save(tmp_path / f"{index}.png")
        paths.append(tmp_path / f"{index}.png")
    predict("--checkpoint", weights, "--json", *paths)
    together = json.loads(capsys.readouterr().out)
    assert [result["image"] for result in together] == [str(path) for path in paths]
    predict("--checkpoint", weights, "--json", paths[2])
    [alone] = json.loads(capsys.readouterr().out)
    for left, right in zip(alone["top"], together[2]["top"], strict=True):
        assert left["index"] == right["index"]
        assert left["probability"] == pytest.approx(right["probability"], rel=1e-5)


def test_a_picture_of_the_predictions_is_written(weights, tmp_path):
    assert predict("--checkpoint", weights, "--picture", tmp_path / "out.png", PHOTO, PHOTO) == 0
    with Image.open(tmp_path / "out.png") as image:
        assert image.format == "PNG"
        assert image.size[0] > 800
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 1000


def test_a_picture_shows_names_in_any_script_without_warnings(weights, tmp_path, capfd):
    names = ("猫", "$a$ b", "कुत्ता", "😀", *"efghij")
    (tmp_path / "names.txt").write_text("\n".join(names), encoding="utf-8")
    shutil.copy(PHOTO, tmp_path / "写真 $x$.jpg")
    options = ("--top", 10, "--class-names", tmp_path / "names.txt", "--picture", tmp_path / "new" / "out.PNG")
    with warnings.catch_warnings(action="error"):
        assert predict("--checkpoint", weights, *options, tmp_path / "写真 $x$.jpg") == 0
    assert capfd.readouterr().err == ""
    assert (tmp_path / "new" / "out.PNG").exists()


def test_a_picture_of_many_images_shows_the_first_ones_and_says_so(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(picture, "MOST_ROWS", 2)
    path = tmp_path / "out.png"
    assert predict("--checkpoint", weights, "--picture", path, PHOTO, PHOTO, PHOTO) == 0
    assert f"{path} shows the first 2 of 3 images" in capsys.readouterr().err
    with Image.open(path) as image:
        assert image.size[1] < 3 * 338


@pytest.fixture
def folder(tmp_path):
    """A folder with images, one of them damaged, in it and in a folder in it, and with other files."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name in ("b.jpg", "a.jpg", "more/c.JPEG", "no_suffix", ".hidden.jpg"):
        shutil.copy(PHOTO, tmp_path / "photos" / name)
    (tmp_path / "photos" / "cut.jpg").write_bytes(PHOTO.read_bytes()[:20_000])
    (tmp_path / "photos" / "notes.txt").write_text("some text")
    (tmp_path / "photos" / "more" / "notes.jsonl").write_text("{}")
    return tmp_path / "photos"


def test_a_folder_gives_its_images_sorted_and_a_broken_one_keeps_no_other(weights, folder, capsys):
    missing = folder / "missing.png"
    assert predict("--checkpoint", weights, "--json", folder, missing) == 1
    printed = capsys.readouterr()
    results = {result.pop("image"): result for result in json.loads(printed.out)}
    names = ["a.jpg", "b.jpg", "cut.jpg", "more/c.JPEG", "no_suffix", "missing.png"]
    assert list(results) == [str(folder / name) for name in names]
    cut, absent = results.pop(str(folder / "cut.jpg")), results.pop(str(missing))
    assert "cut.jpg is damaged" in cut["error"]
    assert absent == {"error": f"{missing} does not exist"}
    assert all(len(result["top"]) == 5 for result in results.values())
    errors = printed.err.splitlines()
    assert len(errors) == 3
    assert errors[0] == f"effnetv2 predict: {cut['error']}"
    assert errors[2] == f"note: {folder}: skipped 2 of 7 files, which are no images"


def test_tables_of_the_good_images_are_printed_beside_a_line_for_each_bad_one(weights, folder, capsys):
    assert predict("--checkpoint", weights, folder / "a.jpg", folder / "cut.jpg", folder / "b.jpg") == 1
    printed = capsys.readouterr()
    assert [line for line in printed.out.splitlines() if "%" not in line] == [
        str(folder / "a.jpg"),
        "",
        str(folder / "b.jpg"),
    ]
    assert len(printed.err.splitlines()) == 1


def test_given_class_names_are_printed(weights, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("\n".join(f"name {i}" for i in range(10)))
    predict("--checkpoint", weights, "--class-names", tmp_path / "names.txt", PHOTO)
    assert "name" in capsys.readouterr().out


def test_a_note_asks_for_class_names_that_are_not_recorded(tmp_path, capsys):
    save_variables(tmp_path / "w.safetensors", reference.official_variables(reference.TINY, 10), reference.TINY)
    assert predict("--checkpoint", tmp_path / "w.safetensors", "--eval-size", 64, PHOTO) == 0
    assert "--class-names" in capsys.readouterr().err


def test_all_classes_are_shown_if_there_are_fewer_than_five(tmp_path, capsys):
    save_variables(tmp_path / "w.safetensors", reference.official_variables(reference.TINY, 2), reference.TINY)
    assert predict("--checkpoint", tmp_path / "w.safetensors", "--eval-size", 64, "--json", PHOTO) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert sorted(guess["index"] for guess in result["top"]) == [0, 1]


def test_an_official_checkpoint_is_recognised(tmp_path, capsys):
    shutil.copytree(reference.TINY_CHECKPOINT, tmp_path / "c")
    assert predict("--checkpoint", tmp_path / "c", "--variant", "efficientnetv2-b0", PHOTO) == 1
    assert "misshapen" in capsys.readouterr().err  # it was read as an official checkpoint, and the tiny one is not B0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "nowhere.safetensors", PHOTO], "nowhere.safetensors does not exist"),
        (["--checkpoint", "nowhere.pth", PHOTO], "nowhere.pth does not exist"),
        (["--checkpoint", "nowhere.tgz", PHOTO], "nowhere.tgz does not exist"),
        (["--checkpoint", "runs/nowhere", PHOTO], "runs/nowhere does not exist"),
        (["--checkpoint", "{weights}", "nowhere.jpg"], "nowhere.jpg does not exist"),
        (["--checkpoint", "{weights}", reference.FOLDER / "torch_weights.py"], "is not an image"),
        (["--checkpoint", "{weights}", "empty"], "empty contains no images"),
        (["--checkpoint", "{weights}", "--top", "11", PHOTO], "top must be 1 to 10"),
        (["--checkpoint", "{weights}", "--framework", "timm", PHOTO], "its names are those of flax"),
        (["--checkpoint", "{weights}", "--eval-size", "3", PHOTO], "at least 17 px"),
    ],
)
def test_errors_are_one_line(weights, capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert predict(*(str(argument).replace("{weights}", str(weights)) for argument in arguments)) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_a_picture_of_another_format_is_refused_before_anything_is_classified(weights, capsys, tmp_path):
    assert predict("--checkpoint", weights, "--picture", tmp_path / "out.txt", PHOTO) == 2
    printed = capsys.readouterr()
    assert ".png" in printed.err
    assert printed.out == ""
