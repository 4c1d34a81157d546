"""Data sets written as shards of even size: the same examples as before, whatever happens in between."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from data.conftest import forget_listings
from data.pictures import encoded, picture
from data.sources.test_shards import write_tar

from effnetv2_jax.cli.main import main
from effnetv2_jax.data.check import check_dataset
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.conversion import ShardSize, convert_dataset
from effnetv2_jax.data.dataset import dataset_info, open_source
from effnetv2_jax.data.pipeline import train_batches
from effnetv2_jax.data.sources import datasets
from effnetv2_jax.data.sources.datasets import DatasetSpec, ShardFiles
from effnetv2_jax.data.sources.record_format import RECORD_FORMATS

FORMATS = sorted(RECORD_FORMATS)


def converted(folder):
    forget_listings()
    return DataConfig(dataset="converted", data_dir=str(folder), augmentation="none", threads=2)


def examples(config, *, evaluation):
    """Returns name → (image, labels)."""
    source = open_source(config, evaluation=evaluation)
    read = source.read(None).map(lambda entry: entry | {"image": source.load(entry["image"])})
    return {entry["id"]: (entry["image"], np.array(entry["label"]).tolist()) for entry in read.as_numpy_iterator()}


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name.startswith("converted-")}


@pytest.fixture
def tars(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tars").mkdir()
    for split, files in (("train", 3), ("val", 1)):
        for file in range(files):
            numbers = range(10 * file, 10 * file + 5 + file)
            members = [
                member
                for k in numbers
                for member in ((f"{k}.jpg", encoded(picture(k + 100 * files))), (f"{k}.cls", str(k % 4).encode()))
            ]
            write_tar(tmp_path / "tars" / f"{split}-{file}.tar", members)
    return DataConfig(dataset="webdataset", data_dir=str(tmp_path / "tars"), threads=2)


@pytest.fixture
def multi_hot(tmp_path, monkeypatch):
    """Records as those of ImageNet-21k, with several labels."""
    shards = {"train": ShardFiles("mine*", 0, 1), "validation": ShardFiles("mine*", 1, 2)}
    spec = DatasetSpec("mine", "tfrecords", "train", "validation", 5, shards=shards, multi_hot=True)
    monkeypatch.setattr(datasets, "DATASETS", {**datasets.DATASETS, "mine": spec})
    monkeypatch.setattr("effnetv2_jax.data.sources.tfrecords.DATASETS", datasets.DATASETS)
    (tmp_path / "records").mkdir()
    for file, count in enumerate((7, 3)):
        with tf.io.TFRecordWriter(str(tmp_path / f"records/mine-{file:05}-of-00002")) as writer:
            for k in range(count):
                image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded(picture(k + 50 * file))]))
                labels = tf.train.Feature(int64_list=tf.train.Int64List(value=range(1 + k % 3)))
                features = tf.train.Features(feature={"image": image, "labels": labels})
                writer.write(tf.train.Example(features=features).SerializeToString())
    return DataConfig(dataset="mine", data_dir=str(tmp_path / "records"), threads=2)


@pytest.mark.parametrize(
    ("source", "form"),
    [("digits", "array_record"), *itertools.product(["pets", "tars", "multi_hot"], FORMATS)],
)
def test_the_shards_are_even_and_hold_the_same_examples(source, form, request, make_folder, tmp_path):
    config = request.getfixturevalue(source)
    config = make_folder(config) if source == "pets" else config
    done = convert_dataset(config, str(tmp_path / "out"), form, ShardSize(shards=5))
    result = converted(tmp_path / "out")
    for evaluation in (False, True):
        assert examples(result, evaluation=evaluation) == examples(config, evaluation=evaluation)
    before, after = dataset_info(config), dataset_info(result, for_training=True)
    for field in ("num_classes", "train_examples", "eval_examples", "class_names", "multi_hot"):
        assert getattr(before, field) == getattr(after, field)
    assert after.sizes
    assert len(done.manifest.examples["train"]) == 5
    for counts in done.manifest.examples.values():
        assert max(counts) - min(counts) <= 1
    assert done.written == sum(map(len, done.manifest.examples.values())) == len(contents(tmp_path / "out"))


def test_the_size_of_shards_decides_their_number(digits, tmp_path):
    done = convert_dataset(digits, str(tmp_path / "out"), size=ShardSize(megabytes=0.05))
    lengths = [length for split in done.manifest.lengths.values() for length in split]
    assert len(lengths) == 9
    assert all(0.03e6 < length < 0.06e6 for length in lengths)


@pytest.mark.parametrize("form", FORMATS)
def test_hosts_share_the_examples_and_a_resumed_run_gets_the_same_batches(tars, tmp_path, form):
    convert_dataset(tars, str(tmp_path / "out"), form, ShardSize(shards=5))
    config = converted(tmp_path / "out")
    opened = [open_source(config, evaluation=False, host_index=k, host_count=4) for k in range(4)]
    shares = [{entry["id"] for entry in source.read(None).as_numpy_iterator()} for source in opened]
    assert [len(each) for each in shares] == [4, 5, 4, 5]
    assert set.union(*shares) == set(examples(tars, evaluation=False))
    arguments = {"image_size": 8, "magnitude": 0.0, "batch_size": 4, "seed": 3}
    straight = list(itertools.islice(train_batches(config, **arguments, start_step=0), 12))
    resumed = list(itertools.islice(train_batches(config, **arguments, start_step=7), 5))
    for one, other in zip(straight[7:], resumed, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


@pytest.mark.parametrize("form", FORMATS)
def test_a_conversion_that_was_stopped_goes_on_to_the_same_files(tars, tmp_path, form):
    size, out = ShardSize(shards=4), tmp_path / "stopped"
    convert_dataset(tars, str(tmp_path / "straight"), form, size)

    def stop(done, _):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_dataset(tars, str(out), form, size, stop)
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("converted-*")}
    assert sorted(finished) == [f"converted-train.{form}-0000{k}-of-00004" for k in range(2)]
    with pytest.raises(ValueError, match=r"2 of 6 shards in .* are written; the same"):
        dataset_info(converted(out))
    (out / f"converted-train.{form}-00002-of-00004.tmp-1").write_bytes(b"left by a process that was killed")

    seen = []
    done = convert_dataset(tars, str(out), form, size, lambda now, _: seen.append(now))
    assert done.written == 4
    assert (seen[0], seen[-1]) == (9, 23)
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished
    assert contents(out) == contents(tmp_path / "straight")
    assert convert_dataset(tars, str(out), form, size).written == 0

    path = out / f"converted-train.{form}-00001-of-00004"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
        dataset_info(converted(out))
    assert convert_dataset(tars, str(out), form, size).written == 1
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{path.name}' is missing"):
        dataset_info(converted(out))
    assert convert_dataset(tars, str(out), form, size).written == 1
    assert contents(out) == contents(tmp_path / "straight")


def test_a_source_that_ends_early_leaves_no_short_shard(digits, tmp_path, monkeypatch):
    def shortened(*arguments, **options):
        source = open_source(*arguments, **options)
        return dataclasses.replace(source, read=lambda seed: source.read(seed).take(20))

    monkeypatch.setattr("effnetv2_jax.data.conversion.open_source", shortened)
    with pytest.raises(ValueError, match=r"digits: train ended 1,417 examples before its number said"):
        convert_dataset(digits, str(tmp_path), size=ShardSize(shards=1))
    assert not contents(tmp_path)


def test_a_shard_for_a_bucket_is_copied_there_whole(tars, tmp_path, monkeypatch):
    convert_dataset(tars, str(tmp_path / "disk"), size=ShardSize(shards=2))
    monkeypatch.setattr("effnetv2_jax.data.shard_writer.in_bucket", lambda _: True)
    convert_dataset(tars, str(tmp_path / "bucket"), size=ShardSize(shards=2))
    assert contents(tmp_path / "bucket") == contents(tmp_path / "disk")


def test_what_differs_from_the_folder_is_refused_and_named(digits, pets, make_folder, tmp_path):
    config, out = make_folder(pets), str(tmp_path / "out")
    convert_dataset(config, out, size=ShardSize(shards=2))
    with pytest.raises(ValueError, match=r"has the data 'folder: 12 \+ 4 .* would write 'tfds:digits"):
        convert_dataset(digits, out, size=ShardSize(shards=2))
    with pytest.raises(ValueError, match=r"has the format 'tfrecord', .* would write 'array_record'"):
        convert_dataset(config, out, "array_record", ShardSize(shards=2))
    with pytest.raises(
        ValueError, match=r"has the shards '2 of train and 1 of validation', .* would write '3 of train"
    ):
        convert_dataset(config, out, size=ShardSize(shards=3))
    with pytest.raises(ValueError, match=r"has files and no effnetv2_data.json"):
        convert_dataset(config, config.data_dir)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", "riegeli"), r"unknown format 'riegeli' \(allowed: tfrecord, array_record\)"),
        (("gs://bucket/x", "array_record"), "cannot be read from a bucket"),
        (("x", "tfrecord", ShardSize(shards=1438)), "1438 shards are not possible"),
        (("x", "tfrecord", ShardSize(megabytes=0)), "must be above 0"),
        (("x", "tfrecord", ShardSize(megabytes=float("inf"))), "must be above 0 and finite"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(digits, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        convert_dataset(digits, *arguments)
    assert not list(tmp_path.iterdir())


def test_broken_images_are_copied_and_named(make_folder, pets, tmp_path):
    broken = {"train/cat/text.jpg": b"text", "train/dog/empty.jpg": b""}
    config = make_folder(pets | broken)
    done = convert_dataset(config, str(tmp_path / "out"), size=ShardSize(shards=3))
    assert done.broken == {"train/cat/text.jpg": "is not an image", "train/dog/empty.jpg": "is empty"}
    report = check_dataset(converted(tmp_path / "out"))
    assert report.train.broken == done.broken


def test_an_image_that_cannot_be_read_stops_the_conversion(make_folder, pets, tmp_path):
    config = make_folder(pets)
    open_source(config, evaluation=False)  # lists the files
    (tmp_path / "train/cat/3.jpg").unlink()
    with pytest.raises(OSError, match=r"train/cat/3.jpg cannot be read"):
        convert_dataset(config, str(tmp_path / "out"), size=ShardSize(shards=1))
    assert not contents(tmp_path / "out")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_no_part_of_a_shard(make_folder, pets, tmp_path, monkeypatch, form):
    config, out = make_folder(pets), tmp_path / "out"
    whole = RECORD_FORMATS[form]
    opened = []

    def writer(path):
        opened.append(path)
        return whole.writer(path if len(opened) == 1 else "/dev/full")

    monkeypatch.setattr("effnetv2_jax.data.shard_writer.RECORD_FORMATS", {form: whole._replace(writer=writer)})
    with pytest.raises(
        OSError, match=rf"out/converted-train.{form}-00001-of-00003 could not be written: .*[Nn]o space"
    ):
        convert_dataset(config, str(out), form, ShardSize(shards=3))
    assert sorted(path.name for path in out.iterdir()) == [
        f"converted-train.{form}-00000-of-00003",
        "effnetv2_data.json",
    ]
    monkeypatch.undo()
    assert convert_dataset(config, str(out), form, ShardSize(shards=3)).written == 3


def test_tfds_reads_the_shards_by_itself(digits, multi_hot, tmp_path):
    convert_dataset(digits, str(tmp_path / "one"), size=ShardSize(shards=3))
    builder = tfds.builder_from_directory(str(tmp_path / "one"))
    assert builder.info.features["label"].names == [str(k) for k in range(10)]
    expected = examples(converted(tmp_path / "one"), evaluation=True)
    read = builder.as_dataset(split="validation", decoders={"image": tfds.decode.SkipDecoding()}).as_numpy_iterator()
    assert {entry["id"]: (entry["image"], int(entry["label"])) for entry in read} == expected

    convert_dataset(multi_hot, str(tmp_path / "several"), "array_record", ShardSize(shards=2))
    read = tfds.builder_from_directory(str(tmp_path / "several")).as_data_source(split="train")
    expected = examples(multi_hot, evaluation=False)
    assert {entry["id"]: list(entry["label"]) for entry in read} == {
        name: labels for name, (_, labels) in expected.items()
    }


def test_the_command_says_what_the_folder_holds(digits_dir, tmp_path, capsys):
    words = ["data", "convert", "--config", "digits", f"--config.data.data_dir={digits_dir}", "--shards", "4"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "holds 1,437 examples of train (shards: 4) and 360 examples of validation (shards: 2)" in printed
    assert "shards written now: 6 of 6." in printed
    assert json.loads((tmp_path / "out/effnetv2_data.json").read_text())["format"] == "tfrecord"
    for wrong, message in ((words, "convert needs --out FOLDER"), ([*words[:-1], "0", "--out", "x"], "at least 1")):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err


def test_the_manifest_is_checked(tars, tmp_path):
    convert_dataset(tars, str(tmp_path / "out"), size=ShardSize(shards=2))
    path = tmp_path / "out/effnetv2_data.json"
    text = path.read_text()
    for change in ('"tfrecord"', '"riegeli"'), ('"lengths"', '"sizes"'), ('"train"', '"../train"'), ("{", "["):
        path.write_text(text.replace(*change, 1))
        with pytest.raises(ValueError, match=r"effnetv2_data.json is damaged"):
            dataset_info(converted(tmp_path / "out"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"effnetv2_data.json' does not exist; `effnetv2 data convert"):
        dataset_info(converted(tmp_path / "out"))
