"""The built-in digits, and how TFDS prepares them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.dataset import dataset_info
from effnetv2_jax.data.pipeline import eval_batches
from effnetv2_jax.data.sources.digits import held_out_rows
from effnetv2_jax.data.sources.source import digest_of


@pytest.fixture(scope="module")
def stored(digits_dir: str) -> dict[str, list[dict[str, np.ndarray]]]:
    from effnetv2_jax.data.sources.tfds_source import prepared_builder

    builder = prepared_builder("digits", digits_dir)
    return {split: list(tfds.as_numpy(builder.as_dataset(split=split))) for split in ("train", "test")}


def test_the_digits_are_written_without_a_word(tmp_path, capfd):
    from effnetv2_jax.data.sources.tfds_source import prepared_builder

    assert prepared_builder("digits", str(tmp_path)).is_prepared()
    assert capfd.readouterr() == ("", "")


def test_the_two_splits_contain_every_digit_of_scikit_learn_once(stored):
    def as_bytes(image):
        return np.rint(np.asarray(image, np.float64)).astype(np.uint8).tobytes()

    original = load_digits()
    expected = sorted(
        (as_bytes(image * (255 / 16)), int(label))
        for image, label in zip(original.images, original.target, strict=True)
    )
    found = sorted((row["image"].tobytes(), int(row["label"])) for split in stored.values() for row in split)
    assert {split: len(rows) for split, rows in stored.items()} == {"train": 1437, "test": 360}
    assert found == expected


def test_a_fifth_of_each_class_is_held_out():
    labels = load_digits().target
    held_out = held_out_rows(labels)
    shares = [np.mean(held_out[labels == digit]) for digit in range(10)]
    assert held_out.sum() == 360
    assert max(abs(share - 0.2) for share in shares) < 1 / 174  # the smallest class has 174


def test_dataset_info_has_the_classes_and_sizes_of_the_digits(digits_dir):
    info = dataset_info(DataConfig(data_dir=digits_dir))
    assert (info.num_classes, info.train_examples, info.eval_examples) == (10, 1437, 360)
    assert info.class_names == tuple("0123456789")
    assert info.origin == "tfds:digits/1.0.0[train] tfds:digits/1.0.0[test]"


def test_the_sizes_of_digits_are_known_only_for_training(digits_dir):
    """They are the numbers of examples in each file."""
    config = DataConfig(data_dir=digits_dir)
    assert dataset_info(config).sizes == ""
    assert dataset_info(config, for_training=True).sizes == digest_of(["test [360]", "train [1437]"])


def test_images_are_grey_and_show_their_digit(digits):
    batch = next(eval_batches(digits, image_size=8, batch_size=360))
    assert (batch["image"] == batch["image"][..., :1]).all()
    # Most images are closest to the mean image of their own class, so the labels belong to the images.
    images = batch["image"][..., 0].astype(np.float64)
    means = np.stack([images[batch["label"] == digit].mean(0) for digit in range(10)])
    nearest = np.argmin(((images[:, None] - means) ** 2).sum((2, 3)), axis=1)
    assert np.mean(nearest == batch["label"]) > 0.85


@pytest.mark.slow
def test_two_processes_can_prepare_the_digits_at_once(tmp_path):
    from effnetv2_jax.data.sources.tfds_source import prepared_builder

    code = (
        "import sys; from effnetv2_jax.data.sources.tfds_source import prepared_builder; print('ready', flush=True);"
        "sys.stdin.readline(); print(prepared_builder('digits', sys.argv[1]).info.splits['train'].num_examples)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "ready\n"
    other.stdin.write("\n")
    other.stdin.flush()
    own = prepared_builder("digits", str(tmp_path))
    output, _ = other.communicate(timeout=60)
    assert (own.info.splits["train"].num_examples, output.split()[-1]) == (1437, "1437")
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_a_process_whose_preparation_is_late_uses_the_folder_of_the_first(tmp_path, monkeypatch):
    from effnetv2_jax.data.sources.digits import Digits
    from effnetv2_jax.data.sources.tfds_source import prepared_builder

    prepare = Digits.download_and_prepare

    def another_process_was_faster(_self, **_options):
        prepare(Digits(data_dir=str(tmp_path)))
        raise OSError("Directory not empty")

    monkeypatch.setattr(Digits, "download_and_prepare", another_process_was_faster)
    assert prepared_builder("digits", str(tmp_path)).info.splits["test"].num_examples == 360


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    from effnetv2_jax.data.sources.tfds_source import prepared_builder

    blocked = Path(tmp_path) / "file"
    blocked.write_text("not a folder")
    with pytest.raises(OSError, match="file"):
        prepared_builder("digits", str(blocked))
