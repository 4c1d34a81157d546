"""Broken images are replaced and counted in training, and stop evaluation."""

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from data.images.test_decoding import BROKEN
from data.pictures import encoded, picture

from effnetv2_jax.data.pipeline import eval_batches, train_batches

WHY = {
    "empty": "is empty",
    "text": "is not an image",
    "zeros": "is not an image",
    "TIFF": "is a damaged, cut short or unsupported TIFF of 32 x 24 pixels",
    "JPEG cut in its header": "is damaged or cut short in its header: Truncated File Read",
    "JPEG cut in half": "is a damaged, cut short or unsupported JPEG of 160 x 120 pixels",
    "JPEG that announces 20,000 x 20,000": "announces more than 89,478,485 pixels",
    "PNG that announces 20,000 x 20,000": "announces more than 89,478,485 pixels",
}


def train(config, count, **changes):
    arguments = {"image_size": 16, "magnitude": 0.0, "batch_size": 6, "start_step": 0, "seed": 0} | changes
    batches = train_batches(config, **arguments)
    return batches, list(itertools.islice(batches, count))


@pytest.fixture
def with_broken(make_folder, pets):
    """Twelve sound training images, and every kind of broken image."""
    broken = {f"train/cat/broken {name}.jpg": content for name, content in BROKEN.items()}
    config = make_folder(pets | broken, max_broken=1.0, preprocessing="finetune", flip=False)
    (Path(config.data_dir) / "train/dog/unreadable.jpg").mkdir()
    (Path(config.data_dir) / "train/dog/dangling.jpg").symlink_to("/nowhere")
    return config


def test_every_broken_image_is_logged_with_its_reason_and_replaced_in_its_row(with_broken, caplog):
    with caplog.at_level(logging.WARNING):
        batches, rows = train(with_broken, 1, batch_size=12 + len(BROKEN) + 2)
    reasons = batches.broken.reasons
    assert len(reasons) == batches.broken.skipped == len(BROKEN) + 2
    for name, reason in WHY.items():
        assert reasons[f"train/cat/broken {name}.jpg"] == reason
    for name in ("dangling", "unreadable"):
        assert reasons[f"train/dog/{name}.jpg"].startswith("cannot be read: ")
    assert all(f"{name} {reason}" in caplog.text for name, reason in reasons.items())
    sound = {image.tobytes() for image in rows[0]["image"]}
    assert len(sound) == 12
    assert not any(image.max() == 0 for image in rows[0]["image"])  # no black placeholder


def test_the_sound_images_keep_their_rows(make_folder, pets):
    name = "train/cat/3.jpg"
    config = make_folder(pets, max_broken=1.0)
    _, before = train(config, 4)
    make_folder({name: b"broken now"})
    batches, after = train(config, 4)
    assert batches.broken.reasons == {name: "is not an image"}
    assert batches.broken.skipped == 2  # 24 examples are two epochs
    changed = [
        (step, position)
        for step in range(4)
        for position in range(6)
        if not np.array_equal(before[step]["image"][position], after[step]["image"][position])
    ]
    assert len(changed) == 2
    for step, position in changed:  # replaced by the next sound image of the batch, with its label
        neighbour = (position + 1) % 6
        np.testing.assert_array_equal(after[step]["image"][position], after[step]["image"][neighbour])
        assert after[step]["label"][position] == after[step]["label"][neighbour]


def test_batches_with_broken_images_resume(with_broken):
    _, straight = train(with_broken, 8)
    for step in (3, 6):
        _, resumed = train(with_broken, 2, start_step=step)
        for one, other in zip(resumed, straight[step : step + 2], strict=True):
            np.testing.assert_array_equal(one["image"], other["image"])
            np.testing.assert_array_equal(one["label"], other["label"])


def test_training_stops_above_the_limit_and_names_the_images(make_folder, pets):
    config = make_folder(pets | {"train/cat/a.jpg": b"", "train/dog/b.jpg": b""}, max_broken=0.1)  # of 14: one
    with pytest.raises(ValueError, match=r"2 of 14 .*14\.3 %.*data\.max_broken 0\.1 allows 10 %") as error:
        train(config, 5)
    assert "train/cat/a.jpg is empty" in str(error.value)
    assert "train/dog/b.jpg is empty" in str(error.value)


def test_the_next_stage_continues_the_count_and_shares_the_limit(make_folder, pets):
    config = make_folder(pets | {"train/cat/a.jpg": b""}, max_broken=0.1)  # of 13: one
    first, _ = train(config, 13)  # six epochs
    second, _ = train(config, 13, start_step=13, image_size=24, broken=first.broken)
    assert second.broken.skipped == 12
    (Path(config.data_dir) / "train/cat/a.jpg").unlink()  # it stays counted
    make_folder({"train/dog/b.jpg": b""})
    with pytest.raises(ValueError, match=r"2 of 13 .*max_broken 0\.1 .*a\.jpg.*b\.jpg"):
        train(config, 5, broken=second.broken)


def test_by_default_a_small_data_set_may_have_no_broken_image(make_folder, pets):
    config = make_folder(pets | {"train/cat/a.jpg": b""})
    with pytest.raises(ValueError, match=r"1 of 13 .*max_broken 0\.001 .*train/cat/a\.jpg.*data check"):
        train(config, 5)


def test_a_batch_without_any_sound_image_stops_training(make_folder):
    files = {f"{split}/one/{index}.jpg": b"" for split in ("train", "val") for index in range(4)}
    with pytest.raises(ValueError, match="4 of 4 training images are broken"):
        train(make_folder(files, max_broken=1.0), 1, batch_size=4)


@pytest.mark.parametrize("name", ["JPEG cut in half", "empty", "JPEG that announces 20,000 x 20,000"])
def test_evaluation_stops_at_a_broken_image(make_folder, pets, name):
    config = make_folder(pets | {"val/dog/bad.jpg": BROKEN[name]}, max_broken=1.0)
    with pytest.raises(ValueError, match=f"evaluation cannot decode val/dog/bad.jpg: it {WHY[name]}"):
        list(eval_batches(config, image_size=16, batch_size=2))


def test_evaluation_notices_damage_outside_its_crop(make_folder, pets):
    whole = encoded(picture(1, 400, 300), quality=95)
    config = make_folder(pets | {"val/dog/bad.jpg": whole[: int(0.97 * len(whole))]}, preprocessing="v2")
    with pytest.raises(ValueError, match=r"val/dog/bad\.jpg"):
        list(eval_batches(config, image_size=16, batch_size=8))
