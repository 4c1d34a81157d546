"""`effnetv2 evaluate`, `compare` and `bench --pretrained` on weights and folders: what they print and write."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluate.conftest import SIZE, SPEC, save_weights, write_folder
from PIL import Image

from effnetv2_jax.cli.main import main
from effnetv2_jax.model.summary import count_multiply_adds, count_parameters

CLASSES = ("ant", "bee", "cat")
IMAGES = {f"{CLASSES[number % 3]}/{number:02d}.jpg": number for number in range(12)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with images of three classes, and two files of weights for them."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_folder(folder / "images", IMAGES)
    write_folder(folder / "others", {"ant/0.jpg": 0, "eel/1.jpg": 1})
    for name, seed in (("a", 0), ("b", 3)):
        save_weights(folder / f"{name}.safetensors", 3, seed, class_names=CLASSES, averaging="averaged")
    return folder


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def printed(capsys, *words):
    assert main(list(words)) == 0
    return capsys.readouterr().out


def read_csv(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


DATA = ("--data", "images", "--batch-size", "12")
BOTH = ("a.safetensors", "b.safetensors")


@pytest.fixture(scope="module")
def evaluated(place):
    """Evaluates both weights in two views, and returns the folder of the report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = ["evaluate", "--checkpoint", *BOTH, *DATA, "--crop", "centre", "whole", "--report", "report"]
        assert main([*words, "--predictions", "all.parquet"]) == 0
    return place


def test_a_report_has_a_folder_for_each_evaluation(evaluated):
    rows = json.loads((evaluated / "report/results.json").read_text())
    assert [(row["checkpoint"], row["crop"], row["image_size"]) for row in rows] == [
        (path, crop, SIZE) for crop in ("centre", "whole") for path in BOTH
    ]
    assert {row["count"] for row in rows} == {12}
    for row in rows:
        folder = evaluated / "report" / row["report"]
        for name in ("reliability.png", "confusions.png", "mistakes.png"):
            with Image.open(folder / name) as picture:
                picture.verify()
        classes = read_csv(folder / "classes.csv")
        assert [each["name"] for each in classes] == list(CLASSES)
        assert sum(int(each["images"]) for each in classes) == 12
        accuracy = np.mean([float(each["top1"]) for each in classes])  # the classes have equally many images
        assert accuracy == pytest.approx(row["top1"])


def test_predictions_have_a_row_for_each_image_of_each_evaluation(evaluated):
    table = pq.read_table(evaluated / "all.parquet").to_pylist()
    assert len(table) == 4 * 12
    rows = json.loads((evaluated / "report/results.json").read_text())
    for row in rows:
        own = [each for each in table if all(each[key] == row[key] for key in ("checkpoint", "crop"))]
        assert {each["image"] for each in own} == {f"images/{name}" for name in IMAGES}
        for each in own:
            assert each["label_names"] == [each["image"].split("/")[1]]
            assert each["right"] == (each["class_1"] == each["labels"][0])
            assert each["name_1"] == CLASSES[each["class_1"]]
            assert sum(each[f"probability_{place}"] for place in (1, 2, 3)) == pytest.approx(1, abs=1e-5)
        assert 100 * np.mean([each["right"] for each in own]) == pytest.approx(row["top1"])
        assert np.mean([each["loss"] for each in own]) == pytest.approx(row["loss"])


def test_predictions_as_csv_agree_with_json(capsys):
    words = ["evaluate", "--checkpoint", BOTH[0], *DATA, "--crop", "whole", "--predictions", "p.csv", "--json"]
    (row,) = json.loads(printed(capsys, *words).splitlines()[-1])
    table = read_csv("p.csv")
    assert [each["image"] for each in table] == sorted(f"images/{name}" for name in IMAGES)
    assert 100 * np.mean([each["right"] == "True" for each in table]) == pytest.approx(row["top1"])
    assert {each["labels"] for each in table} == {"0", "1", "2"}


def test_compare_counts_the_images_that_one_gets_right(evaluated, capsys):
    words = ["compare", *BOTH, *DATA, "--crop", "whole", "--differences", "out/d.csv", "--picture", "d.png"]
    summary = json.loads(printed(capsys, *words, "--json").splitlines()[-1])
    table = pq.read_table(evaluated / "all.parquet").to_pylist()
    one, other = (
        {each["image"]: each for each in table if (each["checkpoint"], each["crop"]) == (path, "whole")}
        for path in BOTH
    )
    only = {
        "first": {image for image in one if one[image]["right"] and not other[image]["right"]},
        "second": {image for image in one if other[image]["right"] and not one[image]["right"]},
    }
    assert (summary["only_first_right"], summary["only_second_right"]) == tuple(map(len, only.values()))
    agreement = np.mean([one[image]["class_1"] == other[image]["class_1"] for image in one])
    assert summary["agreement"] == pytest.approx(100 * agreement)
    rows = read_csv("out/d.csv")
    assert {side: {row["image"] for row in rows if row["right"] == side} for side in only} == only
    Image.open("d.png").verify()
    text = printed(capsys, *words)
    assert "McNemar's exact test" in text
    assert f"only A {summary['only_first_right']}" in text


def test_bench_makes_a_table_of_weights(capsys):
    words = ["bench", "--pretrained", *BOTH, *DATA, "--crop", "whole", "--csv", "table.csv", "--steps", "1"]
    assert "images/s" in printed(capsys, *words)
    rows = read_csv("table.csv")
    assert {row["checkpoint"] for row in rows} == set(BOTH)
    for row in rows:
        assert int(row["parameters"]) == count_parameters(SPEC, 3)
        assert int(row["multiply_adds"]) == count_multiply_adds(SPEC, SIZE, 3)
        assert float(row["images_per_second"]) > 0
        assert row["data"] == "images"
    assert [float(row["top1"]) for row in rows] == sorted((float(row["top1"]) for row in rows), reverse=True)
    capsys.readouterr()


def test_labels_may_come_from_a_file(capsys):
    lines = [f"{name.rpartition('/')[2]},{name.partition('/')[0]}" for name in IMAGES]
    Path("labels.csv").write_text("\n".join(["image,label", *lines]))
    words = ["evaluate", "--checkpoint", BOTH[0], "--crop", "whole", "--batch-size", "12", "--json"]
    (expected,) = json.loads(printed(capsys, *words, "--data", "images").splitlines()[-1])
    (got,) = json.loads(printed(capsys, *words, "--data", "images", "--labels", "labels.csv").splitlines()[-1])
    for key in ("top1", "top5", "loss", "ece", "count"):
        assert got[key] == pytest.approx(expected[key], rel=1e-5)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("evaluate", "--checkpoint", "a.safetensors"), 2, "--checkpoint needs --config"),
        (("evaluate", "--checkpoint", *BOTH), 2, "--data or --config must name the data"),
        (("evaluate", "--checkpoint", *BOTH, "--config", "smoke", *DATA), 2, "--data takes the place of --config"),
        (("evaluate", "--checkpoint", *BOTH, *DATA, "--sizes", "1:2"), 2, "--sizes: '1:2' is neither"),
        (("evaluate", "--checkpoint", *BOTH, *DATA, "--predictions", "p.txt"), 2, "must end in .parquet or .csv"),
        (("evaluate", "--checkpoint", *BOTH, *DATA, "--labels", "x=l"), 2, "must be DATA=FILE with one of images"),
        (
            ("evaluate", "--checkpoint", *BOTH, "--data", "nowhere"),
            1,
            "'nowhere' is neither a folder nor a known data set; these are imagenet2012",
        ),
        (("evaluate", "--checkpoint", *BOTH, "--data", "others"), 1, "the weights lack 'eel'"),
        (("compare", *BOTH, *DATA, "--sizes", "24,32"), 2, "--sizes must be a single size"),
        (("compare", *BOTH, *DATA, "--picture", "x.jpg"), 2, "--picture: x.jpg must be a .png file"),
        (("compare", *BOTH), 2, "--data or --config must name the data"),
        (("bench",), 2, "give one of --config, to time a training, --exports, to time exported programs"),
        (("bench", "--config", "smoke", *DATA), 2, "--data goes with --pretrained"),
        (("bench", "--pretrained", "a.safetensors", "--input"), 2, "--pretrained goes without --input"),
        (("bench", "--pretrained", "a.safetensors", "--csv", "x"), 2, "--csv: x must be a .csv file"),
    ],
)
def test_wrong_usage_is_refused(capsys, words, code, message):
    assert main(list(words)) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
