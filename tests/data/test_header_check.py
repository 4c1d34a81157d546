"""The look at a folder's headers before a run compiles anything."""

import dataclasses
import logging
import os
from pathlib import Path

import pytest
from data.images.test_decoding import BROKEN
from data.pictures import encoded, picture

from effnetv2_jax.data import header_check
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.dataset import dataset_info
from effnetv2_jax.data.header_check import HeaderLook, header_looks


def open_for_training(config):
    return dataset_info(config, for_training=True)


def test_too_many_broken_training_images_are_refused_with_names_shares_and_a_remedy(make_folder, pets):
    broken = {f"train/cat/broken {name}.jpg": content for name, content in BROKEN.items()}
    config = make_folder(pets | broken)
    (Path(config.data_dir) / "train/dog/dangling.jpg").symlink_to("/nowhere")
    with pytest.raises(ValueError, match="broken") as error:
        open_for_training(config)
    message = str(error.value)
    assert message.startswith(
        "14 of 28 training images are broken (50 %), and data.max_broken 0.001 allows 0.1 %, which is none of 28: "
    )
    assert "train/cat/broken GIF cut in its header.jpg is not an image; " in message
    assert message.endswith("; and 9 more. `effnetv2 data check --config …` lists every broken image")
    assert "\n" not in message
    assert dataset_info(config).train_examples == 28  # as `data check` opens it, to list the faults


def test_an_unreadable_image_is_named_with_the_reason(make_folder, pets):
    config = make_folder(pets)
    (Path(config.data_dir) / "train/dog/dangling.jpg").symlink_to("/nowhere")
    with pytest.raises(
        ValueError, match=r"1 of 13 .* is broken .* train/dog/dangling\.jpg cannot be read: No such file"
    ):
        open_for_training(config)


def test_a_pipe_and_a_file_that_is_too_large_are_not_read(make_folder, pets):
    config = make_folder(pets)
    os.mkfifo(Path(config.data_dir) / "train/dog/pipe.jpg")
    with (Path(config.data_dir) / "train/dog/large.jpg").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"2 of 14 .*large\.jpg has 1\.1 TB, .*pipe\.jpg is no regular file"):
        open_for_training(config)


def test_a_few_broken_training_images_are_warned_of_in_a_line(make_folder, pets, caplog):
    config = make_folder(pets | {"train/cat/a.jpg": b""}, max_broken=0.1)
    with caplog.at_level(logging.WARNING):
        assert dataclasses.replace(open_for_training(config), sizes="") == dataset_info(config)
    (line,) = caplog.messages
    assert "of 13 training images, 1 cannot be decoded" in line
    assert "train/cat/a.jpg" in line


def test_a_sound_folder_is_opened_in_silence(make_folder, pets, caplog):
    with caplog.at_level(logging.WARNING):
        assert open_for_training(make_folder(pets)).train_examples == 12
    assert not caplog.messages


def test_a_broken_evaluation_image_is_refused_because_the_first_evaluation_would_stop(make_folder, pets):
    config = make_folder(pets | {"val/dog/bad.png": b"text"}, max_broken=1.0)
    with pytest.raises(
        ValueError, match=r"1 of 5 evaluation images is broken \(20 %\).* allows none: val/dog/bad\.png is"
    ):
        open_for_training(config)


def test_data_that_is_not_a_local_folder_is_not_looked_at(digits):
    assert header_looks(digits) is None
    assert header_looks(DataConfig(dataset="folder", data_dir="gs://bucket/images")) is None


@pytest.fixture
def many(make_folder, pets):
    """A hundred training images, of which thirty are broken."""
    images = {f"train/cat/{index}.png": encoded(picture(index), "PNG") for index in range(10, 74)}
    return make_folder(pets | images | {f"train/dog/broken {index}.jpg": b"" for index in range(24)})


def test_of_many_images_always_the_same_are_looked_at(many, monkeypatch):
    monkeypatch.setattr(header_check, "_MOST_IMAGES", 40)
    looks = []
    for _ in range(2):
        header_check._looks.cache_clear()
        looks.append(header_looks(many)[0])
    assert looks[0] == looks[1]
    assert (looks[0].images, looks[0].seen) == (100, 40)
    with pytest.raises(ValueError, match=r"of 100 images, the headers of 40 were read: \d+ of 40 training images"):
        open_for_training(many)


def test_the_look_ends_when_its_time_is_up(many, monkeypatch):
    monkeypatch.setattr(header_check, "_SECONDS", 0.0)
    assert header_looks(many)[0] == HeaderLook(100, 0, ())
    assert open_for_training(many).train_examples == 100


@pytest.mark.parametrize(
    ("images", "seen", "broken", "max_broken", "refused"),
    [
        (1000, 1000, 1, 0.001, False),
        (1000, 1000, 2, 0.001, True),
        (1000, 1000, 1, 0.0, True),
        (1000, 1000, 1000, 1.0, False),
        (1_000_000, 8000, 1001, 0.001, True),  # more than the million may have
        (1_000_000, 8000, 12, 0.001, False),  # chance explains half as many again
        (1_000_000, 8000, 80, 0.001, True),  # ten times as many as expected
        (1_000_000, 0, 0, 0.001, False),
    ],
)
def test_a_sample_is_refused_only_beyond_doubt(images, seen, broken, max_broken, refused):
    look = HeaderLook(images, seen, tuple(map(str, range(broken))))
    assert look.exceeds(max_broken) == refused


def test_looking_does_not_change_the_dataset_info(make_folder, pets):
    config = make_folder(pets)
    looked = dataclasses.replace(open_for_training(config), sizes="")
    assert dataclasses.asdict(looked) == dataclasses.asdict(dataset_info(config))
