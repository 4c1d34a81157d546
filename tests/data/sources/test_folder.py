"""Folders of images."""

import dataclasses
import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from data.pictures import encoded, picture

from effnetv2_jax.data.dataset import dataset_info
from effnetv2_jax.data.pipeline import eval_batches, train_batches
from effnetv2_jax.data.sources.folder import list_folder


def listing(config):
    return list_folder(config.data_dir, "train", "val", holdout=config.holdout, holdout_seed=config.holdout_seed)


def one_epoch(config, size=16):
    """Returns the labels and images of one epoch of training."""
    count = dataset_info(config).train_examples
    batch = next(train_batches(config, image_size=size, magnitude=0.0, batch_size=count, start_step=0, seed=0))
    return batch["label"].tolist(), batch["image"]


def test_classes_are_the_sorted_folders_and_labels_belong_to_their_images(make_folder):
    colours = {"zebra": (250, 10, 10), "ant": (10, 250, 10), "Mole": (10, 10, 250)}
    from PIL import Image

    config = make_folder(
        {
            f"{split}/{name}/{index}.png": encoded(Image.new("RGB", (20, 20), colour), "PNG")
            for split in ("train", "val")
            for name, colour in colours.items()
            for index in range(3)
        },
        preprocessing="finetune",
    )
    info = dataset_info(config)
    assert info.class_names == ("Mole", "ant", "zebra")
    assert (info.num_classes, info.train_examples, info.eval_examples) == (3, 9, 9)
    labels, images = one_epoch(config)
    assert sorted(labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for label, image in zip(labels, images, strict=True):
        np.testing.assert_array_equal(image.reshape(-1, 3).mean(0), colours[info.class_names[label]])


def test_every_image_format_is_read_and_other_files_are_ignored(make_folder, pets, caplog):
    kinds = {"a.JPEG": "JPEG", "b.png": "PNG", "c.WebP": "WEBP", "d.bmp": "BMP", "e.gif": "GIF", "png.jpeg": "PNG"}
    config = make_folder(
        pets
        | {f"train/dog/{name}": encoded(picture(index), kind) for index, (name, kind) in enumerate(kinds.items(), 500)}
        | {"train/dog/notes.txt": b"text", "train/dog/.hidden.jpg": b"", "train/.cache/x.jpg": b"", "train/README": b""}
    )
    with caplog.at_level(logging.WARNING):
        assert dataset_info(config).train_examples == 12 + len(kinds)
    assert "ignored 1 files" in caplog.text
    assert "train/dog/notes.txt" in caplog.text
    batches = train_batches(config, image_size=16, magnitude=0.0, batch_size=18, start_step=0, seed=0)
    assert len({image.tobytes() for image in next(batches)["image"]}) == 18
    assert batches.broken.skipped == 0


def test_without_an_evaluation_folder_a_seeded_part_of_each_class_is_held_out(make_folder, pets):
    config = make_folder({name: data for name, data in pets.items() if name.startswith("train")}, holdout=0.3)
    splits = listing(config)
    assert splits == listing(config)
    assert not set(splits.train) & set(splits.evaluation)
    assert {path for path, _ in (*splits.train, *splits.evaluation)} == {name for name in pets if "train" in name}
    assert [label for _, label in splits.evaluation] == [0, 0, 1, 1]  # round(0.3 · 6) of each class
    others = [listing(dataclasses.replace(config, holdout_seed=seed)) for seed in range(1, 6)]
    assert any(other.evaluation != splits.evaluation for other in others)
    assert splits.rule == "0.3 of each class of train/ held out with seed 0"


def test_adding_an_image_keeps_the_others_in_their_splits(make_folder, pets):
    only_train = {name: data for name, data in pets.items() if name.startswith("train")}
    before = listing(make_folder(only_train, holdout=0.34))
    after = listing(make_folder({"train/cat/new.jpg": encoded(picture(900))}, holdout=0.34))
    assert len(set(before.evaluation) - set(after.evaluation)) <= 1  # at most displaced by the new one


def test_the_origin_identifies_the_files(make_folder, pets):
    config = make_folder(pets)
    before = dataset_info(config).origin
    assert before == dataset_info(config).origin
    assert before.startswith("folder: 12 + 4 images, train/ and val/, sha256 ")
    make_folder({"val/cat/more.jpg": encoded(picture(901))})
    assert dataset_info(config).origin != before


def test_the_sizes_change_when_a_file_is_replaced(make_folder, pets):
    def sizes():
        list_folder.cache_clear()  # as in another process
        return dataset_info(config, for_training=True).sizes

    config = make_folder(pets)
    before = sizes()
    assert before
    assert before == sizes()
    name = min(pets)
    replaced = make_folder({name: pets[name] + b" "})
    assert replaced == config
    assert sizes() != before
    make_folder({name: pets[name]})
    assert sizes() == before


def test_sizes_in_a_bucket_are_unknown(make_folder, pets):
    splits = listing(make_folder(pets))
    assert dataclasses.replace(splits, data_dir="gs://bucket/data").sizes == ""


def test_a_link_to_a_file_that_is_gone_has_no_size(make_folder, pets, tmp_path):
    config = make_folder(pets)
    folder = Path(config.data_dir) / "train" / "cat"
    (folder / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    splits = listing(config)
    before = splits.sizes
    (tmp_path / "gone.jpg").write_bytes(b"back")
    assert dataclasses.replace(splits).sizes != before


def test_parts_and_hosts_get_images_of_every_class(make_folder, pets):
    config = make_folder(pets, parts=2)
    shares = [
        next(
            train_batches(
                config, image_size=8, magnitude=0.0, batch_size=6, start_step=0, seed=0, host_index=host, host_count=2
            )
        )["label"].tolist()
        for host in range(2)
    ]
    assert [sorted(labels) for labels in shares] == [[0, 0, 0, 1, 1, 1]] * 2
    seen = [
        batch["mask"].sum()
        for host in range(3)
        for batch in eval_batches(config, image_size=8, batch_size=3, host_index=host, host_count=3)
    ]
    assert sorted(seen) == [1, 1, 2]


def test_batches_do_not_depend_on_the_starting_step(make_folder, pets):
    config = make_folder(pets, augmentation="none")
    arguments = {"image_size": 8, "magnitude": 0.0, "batch_size": 5, "seed": 0}
    straight = list(itertools.islice(train_batches(config, start_step=0, **arguments), 6))
    for step in (2, 5):
        resumed = next(train_batches(config, start_step=step, **arguments))
        np.testing.assert_array_equal(resumed["image"], straight[step]["image"])
        np.testing.assert_array_equal(resumed["label"], straight[step]["label"])


# --- refusals -------------------------------------------------------------------------------------------------------


def test_unusable_folders_are_refused_with_the_reason(make_folder, pets, tmp_path):
    config = make_folder(pets)

    def refused(kind, message, **changes):
        list_folder.cache_clear()
        with pytest.raises(kind, match=message):
            dataset_info(dataclasses.replace(config, **changes))

    refused(FileNotFoundError, r"train.* does not exist; data_dir must contain train/<class>/<image>", data_dir="")
    refused(FileNotFoundError, "elsewhere/train' does not exist", data_dir=str(tmp_path / "elsewhere"))
    refused(ValueError, r"'\.\./train' is not the plain name of a folder", train_split="../train")
    refused(ValueError, "cannot be both the training and the evaluation split", eval_split="train")
    refused(ValueError, r"test/ does not exist, and holdout 0\.0", eval_split="test", holdout=0.0)

    (tmp_path / "val" / "fox").mkdir()
    refused(ValueError, "class 'fox' in .*val contains no images")
    (tmp_path / "val" / "fox" / "1.jpg").write_bytes(b"")
    refused(ValueError, "val/ has classes that train/ lacks: fox")
    (tmp_path / "train" / "CAT").mkdir()
    refused(ValueError, "classes 'CAT' and 'cat' in .*train differ only by case")
    (tmp_path / "train" / "CAT").rmdir()
    (tmp_path / "train" / "empty").mkdir()
    refused(ValueError, r"class 'empty' in .*train contains no images \(\.jpg, ")


def test_a_class_of_one_image_is_refused_if_images_are_held_out(make_folder):
    config = make_folder({"train/one/1.jpg": encoded(picture(1))})
    with pytest.raises(ValueError, match="class 'one' has one image"):
        dataset_info(config)


def test_a_folder_without_classes_is_refused(make_folder):
    config = make_folder({"train/1.jpg": encoded(picture(1))})
    with pytest.raises(ValueError, match="train contains no class folders"):
        dataset_info(config)


def test_more_hosts_than_images_are_refused(make_folder, pets):
    with pytest.raises(ValueError, match=r"4 examples .* 5 hosts"):
        next(eval_batches(make_folder(pets), image_size=8, batch_size=1, host_index=0, host_count=5))
