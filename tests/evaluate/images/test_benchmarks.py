"""The benchmarks of ImageNet: their classes, and their data in the format of TFDS and in folders."""

import hashlib
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from evaluate.conftest import SIZE, logits_of, photo, write_folder

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.pipeline import batches_of_source
from effnetv2_jax.evaluate.candidate import load_candidates
from effnetv2_jax.evaluate.images.benchmarks import BENCHMARKS, imagenet_ids
from effnetv2_jax.evaluate.images.class_subsets import IMAGENET_A, IMAGENET_R
from effnetv2_jax.evaluate.images.evaluation_data import named_data
from effnetv2_jax.evaluate.images.view import ViewChoice
from effnetv2_jax.evaluate.suite import evaluate_suite

BATCH = 8


@pytest.fixture(scope="module")
def ids():
    return imagenet_ids()


@pytest.fixture(scope="module")
def candidates(imagenet_weights):
    return load_candidates([imagenet_weights])


def prepare(name, folder, rows):
    """Writes examples with TFDS's own builder of a data set, whose images would have to be downloaded."""
    builder = tfds.builder(BENCHMARKS[name].dataset.tfds_name, data_dir=folder)
    examples = [(f"image_{number}", {"image": photo_file(folder, number), **row}) for number, row in enumerate(rows)]
    split = BENCHMARKS[name].dataset.evaluation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(builder), "_split_generators", lambda *_: {split: iter(examples)})
        builder.download_and_prepare()


def photo_file(folder, number):
    path = folder / f"photo_{number}.jpg"
    path.write_bytes(photo(number))
    return str(path)


def evaluated(candidates, data, **options):
    (evaluation,) = evaluate_suite(candidates, data, ViewChoice(), batch_size=BATCH, **options)
    return evaluation


def expected_logits(path, data):
    """Returns name → logits of each image, computed with the pipeline's images but without the evaluation's program."""
    config = DataConfig(preprocessing="finetune")
    options = {"image_size": SIZE, "batch_size": BATCH, "multi_hot": data.multi_hot, "unlabelled": data.unlabelled}
    (batch,) = batches_of_source(data.open(0, 1), config, named=True, **options)
    logits = logits_of(path, (batch["image"].astype(np.float32) - 127.5) / 127.5)
    return {name: row for name, row, real in zip(batch["id"], logits, batch["mask"], strict=True) if real}


def test_the_classes_of_imagenet_a_and_r_are_those_of_timm():
    """The digests are those of timm's imagenet_a_indices.txt and imagenet_r_synsets.txt, and the like."""
    ids = imagenet_ids()
    for classes, indices, synsets in (
        (IMAGENET_A, "c956c2f04f2a0ba3", "f6aa4b23244554d9"),
        (IMAGENET_R, "66d45f31879983bd", "e19a59d84e3746fa"),
    ):
        assert (len(classes), list(classes)) == (200, sorted(set(classes)))
        assert hashlib.sha256("\n".join(map(str, classes)).encode()).hexdigest()[:16] == indices
        assert hashlib.sha256("\n".join(ids[index] for index in classes).encode()).hexdigest()[:16] == synsets


@pytest.mark.parametrize("name", sorted(set(BENCHMARKS) - {"imagenet2012"}))
def test_every_benchmark_has_the_classes_of_imagenet_in_tfds(name, ids, tmp_path):
    dataset = BENCHMARKS[name].dataset
    feature = tfds.builder(dataset.tfds_name, data_dir=tmp_path).info.features[dataset.label_feature]
    feature = feature.feature if dataset.multi_hot else feature
    assert tuple(feature.names) == ids


@pytest.mark.parametrize(
    ("benchmark", "counted"),
    [("imagenet_a", IMAGENET_A), ("imagenet_r", IMAGENET_R), ("imagenet_sketch", tuple(range(1000)))],
)
def test_a_benchmark_is_judged_by_its_own_classes_from_tfds_and_from_its_folder(
    imagenet_weights, candidates, ids, tmp_path, benchmark, counted
):
    chosen = [counted[index] for index in (0, 7, 7, 120, 199)]
    prepare(benchmark, tmp_path, [{"label": ids[index], "file_name": f"{index}"} for index in chosen])
    images = {f"{ids[index]}/{number}.jpg": number for number, index in enumerate(chosen)}
    folder = write_folder(tmp_path / "images", images)
    scores = []
    for data in (named_data(benchmark, str(tmp_path)), named_data(f"{benchmark}={folder}")):
        evaluation = evaluated(candidates, data)
        results, columns = evaluation.results, list(evaluation.classes.columns)
        assert columns == list(counted)
        assert evaluation.classes.names == tuple(ids[index] for index in counted)
        logits = expected_logits(imagenet_weights, data)
        for name, best, probability in zip(results.names, results.best, results.best_probability, strict=True):
            own = np.exp(np.float64(logits[name][columns]))
            np.testing.assert_array_equal(best, np.argsort(-own)[:5])
            np.testing.assert_allclose(probability, np.sort(own)[::-1][:5] / own.sum(), rtol=1e-4)
        assert sorted(results.labels[:, 0]) == [0, 7, 7, 120, 199]
        scores.append({key: evaluation.row()[key] for key in ("top1", "top5", "loss", "count", "classes")})
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert (scores[0]["count"], scores[0]["classes"]) == (5, len(counted))


def test_a_label_outside_the_200_classes_is_named(candidates, ids, tmp_path):
    folder = write_folder(tmp_path / "imagenet-a", {f"{ids[0]}/0.jpg": 0, f"{ids[6]}/1.jpg": 1})
    with pytest.raises(ValueError, match=rf"{ids[0]}/0\.jpg has a label that is not among the 200 classes"):
        evaluated(candidates, named_data(f"imagenet_a={folder}"))


def test_real_takes_any_label_and_skips_images_without_one_from_tfds_and_from_a_file(
    imagenet_weights, candidates, ids, tmp_path
):
    rows = [[3], [], [10, 500, 999], [2, 1]]
    names = [f"ILSVRC2012_val_{number + 1:08}.JPEG" for number in range(len(rows))]
    prepare(
        "imagenet2012_real",
        tmp_path,
        [
            {"file_name": name, "original_label": 0, "real_label": [ids[index] for index in row]}
            for name, row in zip(names, rows, strict=True)
        ],
    )
    images = {f"{'ba'[number % 2]}/{name}": number for number, name in enumerate(names)}  # the order is of file names
    folder = write_folder(tmp_path / "val", images)
    (tmp_path / "real.json").write_text(json.dumps(rows))
    scores = []
    for data in (
        named_data("imagenet2012_real", str(tmp_path)),
        named_data(f"imagenet2012_real={folder}", labels=str(tmp_path / "real.json")),
    ):
        evaluation = evaluated(candidates, data)
        logits = expected_logits(imagenet_weights, data)
        losses = {}
        for name, own in zip(evaluation.results.names, evaluation.results.labels, strict=True):
            probabilities = np.exp(np.float64(logits[name])) / np.exp(np.float64(logits[name])).sum()
            losses[tuple(own[own >= 0].tolist())] = probabilities[own[own >= 0]].sum()
        assert sorted(losses) == sorted(tuple(sorted(row)) for row in rows)
        row = evaluation.row()
        assert (row["count"], row["unlabelled"]) == (3, 1)
        assert row["loss"] == pytest.approx(-np.mean([np.log(p) for own, p in losses.items() if own]), rel=1e-4)
        best = {name: logits[name].argmax() for name in logits}
        right = [
            best[name] in own[own >= 0]
            for name, own in zip(evaluation.results.names, evaluation.results.labels, strict=True)
            if (own >= 0).any()
        ]
        assert row["top1"] == pytest.approx(100 * np.mean(right))
        scores.append({key: row[key] for key in ("top1", "top5", "loss")})
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_an_image_is_right_if_it_shows_any_of_its_labels(imagenet_weights, candidates, tmp_path):
    """Each image's labels contain the network's own answer, except that of the last."""
    folder = write_folder(tmp_path / "val", {f"{number}.jpg": number for number in range(4)})
    (tmp_path / "any.json").write_text(json.dumps([[0]] * 4))
    data = named_data(f"imagenet2012_real={folder}", labels=str(tmp_path / "any.json"))
    logits = expected_logits(imagenet_weights, data)
    order = [np.argsort(-logits[f"{number}.jpg".encode()]).tolist() for number in range(4)]
    labels = [[order[0][0]], [order[1][300], order[1][0]], [order[2][4], order[2][9]], [order[3][5]]]
    (tmp_path / "any.json").write_text(json.dumps(labels))
    row = evaluated(candidates, named_data(f"imagenet2012_real={folder}", labels=str(tmp_path / "any.json"))).row()
    assert (row["top1"], row["top5"]) == (50, 75)


def test_the_folders_of_imagenet_v2_are_numbers(candidates, ids, tmp_path):
    prepare("imagenet_v2", tmp_path, [{"label": index, "file_name": f"{index}/x.jpg"} for index in (2, 10, 999)])
    images = {f"{index}/x.jpg": number for number, index in enumerate((2, 10, 999))}
    folder = write_folder(tmp_path / "imagenetv2-matched-frequency-format-val", images)
    both = [evaluated(candidates, named_data(text, str(tmp_path))) for text in ("imagenet_v2", f"imagenet_v2={folder}")]
    assert all(sorted(each.results.labels[:, 0]) == [2, 10, 999] for each in both)
    assert {each.classes.names for each in both} == {ids}
    assert both[0].row()["loss"] == pytest.approx(both[1].row()["loss"], rel=1e-5)


def test_words_replace_the_ids_that_are_known(candidates, ids):
    words = candidates[0].words([ids[1], "not an id"])
    assert words[0].startswith("goldfish")
    assert words[1] == "not an id"


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        ("imagenet_b=.", "", "unknown benchmark 'imagenet_b'; allowed before = are imagenet2012, imagenet2012_real"),
        ("imagenet_a", "real.json", "labels is for the images of a folder, as in imagenet_a=FOLDER"),
        ("imagenet2012_real=.", "", "needs a file of labels, which is real.json"),
        ("folder", "", "name the folder itself"),
    ],
)
def test_data_that_makes_no_sense_is_refused(text, labels, message):
    with pytest.raises(ValueError, match=message):
        named_data(text, labels=labels)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="nowhere' is neither a folder nor a known data set; these are imagenet2012, "
    ):
        named_data(str(tmp_path / "nowhere"))


def test_data_that_cannot_be_downloaded_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"(?s)imagenet2012_real: not found in .*ILSVRC2012_img_val\.tar"):
        named_data("imagenet2012_real", str(tmp_path))
