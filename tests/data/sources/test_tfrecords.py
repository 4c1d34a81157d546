"""The record files that the official code reads."""

import dataclasses
import itertools
import json
import logging

import numpy as np
import pytest
from data.conftest import forget_listings
from data.pictures import encoded, picture

from effnetv2_jax.data.check import check_dataset
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.dataset import dataset_info
from effnetv2_jax.data.pipeline import eval_batches, train_batches

PER_FILE = 3
PICTURE = encoded(picture(0))


def bytes_feature(value: bytes):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def int_feature(*values: int):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def example(**features) -> bytes:
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def imagenet_record(label: int, image: bytes = PICTURE) -> bytes:
    return example(**{"image/encoded": bytes_feature(image), "image/class/label": int_feature(label)})


def write(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


@pytest.fixture
def shards(tmp_path) -> DataConfig:
    """24 training and 2 validation files like those of ImageNet-1k; example n has the stored label n + 1."""
    for kind, files, first in (("train", 24, 0), ("validation", 2, 500)):
        for file in range(files):
            labels = [first + file * PER_FILE + row for row in range(PER_FILE)]
            write(tmp_path / f"{kind}-{file:05d}-of-{files:05d}", [imagenet_record(label + 1) for label in labels])
    return DataConfig(dataset="imagenet2012_tfrecords", data_dir=str(tmp_path), augmentation="none", threads=2)


def labels_of(config, count, **changes):
    arguments = {"image_size": 8, "magnitude": 0.0, "batch_size": 12, "start_step": 0, "seed": 0} | changes
    return [batch["label"].tolist() for batch in itertools.islice(train_batches(config, **arguments), count)]


def test_labels_count_from_zero_and_files_are_split_as_the_official_code_splits_them(shards):
    info = dataset_info(shards)
    assert (info.num_classes, info.train_examples, info.eval_examples) == (1000, 12, 6)
    assert info.class_names[:2] == ("n01440764", "n01443537")
    assert sorted(labels_of(shards, 1)[0]) == list(range(60, 72))  # files 20 … 23
    evaluated = next(eval_batches(shards, image_size=8, batch_size=6))
    assert evaluated["label"].tolist() == list(range(500, 506))


@pytest.mark.parametrize(
    ("split", "expected"),
    [("trainval", range(72)), ("minival[:50%]", range(30)), ("train[1:4]", range(61, 64))],
)
def test_other_splits_have_the_expected_records(shards, split, expected):
    config = dataclasses.replace(shards, train_split=split)
    assert sorted(labels_of(config, 1, batch_size=len(expected))[0]) == list(expected)


def test_hosts_share_the_records_evenly(shards):
    shares = [labels_of(shards, 1, batch_size=6, host_index=host, host_count=2)[0] for host in range(2)]
    assert sorted(itertools.chain(*shares)) == list(range(60, 72))
    rows = [list(eval_batches(shards, image_size=8, batch_size=1, host_index=host, host_count=4)) for host in (0, 1)]
    assert [len(row) for row in rows] == [2, 2]  # of 6 records a host gets one or two
    assert [sum(batch["mask"].sum() for batch in row) for row in rows] == [1, 2]


@pytest.mark.parametrize("shuffle_buffer", [100, 5])
def test_each_epoch_has_every_record_once_and_batches_resume(shards, shuffle_buffer):
    config = dataclasses.replace(shards, train_split="trainval", shuffle_buffer=shuffle_buffer)
    straight = labels_of(config, 12, batch_size=14)
    flat = list(itertools.chain(*straight))
    assert sorted(flat[:72]) == sorted(flat[72:144]) == list(range(72))
    assert flat[:72] != flat[72:144]
    assert labels_of(config, 2, batch_size=14, start_step=7) == straight[7:9]


def test_labels_of_imagenet_21k_are_sets_of_classes(tmp_path):
    for file in range(22):
        record = example(id=bytes_feature(b"x"), image=bytes_feature(PICTURE), labels=int_feature(file, 21_842))
        write(tmp_path / f"imagenet21k-{file:05d}-of-00022", [record])
    config = DataConfig(dataset="imagenet21k", data_dir=str(tmp_path), augmentation="none", threads=2)
    info = dataset_info(config)
    assert (info.num_classes, info.train_examples, info.eval_examples, info.multi_hot) == (21_843, 2, 16, True)
    label = next(train_batches(config, image_size=8, magnitude=0.0, batch_size=2, start_step=0, seed=0))["label"]
    assert label.shape == (2, 21_843)
    assert label.dtype == np.float32
    assert sorted(np.flatnonzero(row).tolist() for row in label) == [[20, 21_842], [21, 21_842]]
    assert (label.sum(1) == 2).all()
    evaluated = list(eval_batches(config, image_size=8, batch_size=10))
    assert [batch["label"].shape for batch in evaluated] == [(10, 21_843)] * 2


def test_records_are_counted_once(shards, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        dataset_info(shards)
        forget_listings()  # as a new process would
        dataset_info(shards)
    assert caplog.text.count("counting the records of") == 2  # once for each of the two patterns
    counts = json.loads((tmp_path / "effnetv2_record_counts.json").read_text())
    assert len(counts) == 26
    assert set(counts.values()) == {PER_FILE}
    write(
        tmp_path / "train-00023-of-00024", [imagenet_record(1)]
    )  # the length changes, so its records are counted again
    forget_listings()
    assert dataset_info(shards).train_examples == 10


def test_the_sizes_change_when_a_file_is_replaced(shards, tmp_path):
    before = dataset_info(shards, for_training=True)
    forget_listings()
    assert dataset_info(shards, for_training=True).sizes == before.sizes != ""
    for file in (3, 23):
        records = [imagenet_record(label, PICTURE + b" ") for label in range(1, 1 + PER_FILE)]
        write(tmp_path / f"train-{file:05d}-of-00024", records)
        forget_listings()
        after = dataset_info(shards, for_training=True)
        assert after.origin == before.origin
        assert after.sizes != before.sizes
        before = after


def test_counts_go_to_the_users_cache_where_the_data_cannot_be_written(shards, tmp_path, monkeypatch):
    elsewhere = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(elsewhere))
    (tmp_path / "effnetv2_record_counts.json").mkdir()  # a folder in the way: renaming onto it fails
    monkeypatch.setattr(tf.io.gfile, "exists", lambda _: False)  # no counts exist yet
    assert dataset_info(shards).train_examples == 12
    assert len([*elsewhere.glob("effnetv2_jax/*/effnetv2_record_counts.json")]) == 1


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"a": "1"}', b'{"a": -1}', b"[" * 100_000, b"\xff"])
def test_counts_that_are_damaged_are_refused(shards, tmp_path, content):
    (tmp_path / "effnetv2_record_counts.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"effnetv2_record_counts\.json is damaged: .*; delete it"):
        dataset_info(shards)


def test_missing_files_are_named(shards, tmp_path):
    (tmp_path / "train-00007-of-00024").unlink()
    with pytest.raises(FileNotFoundError, match=r"missing .*\[7\] of 24"):
        dataset_info(shards)


def test_a_folder_without_record_files_is_refused(tmp_path):
    for data_dir in ("", str(tmp_path)):
        with pytest.raises(FileNotFoundError, match=r"no files train.* in data_dir"):
            dataset_info(DataConfig(dataset="imagenet2012_tfrecords", data_dir=data_dir))


@pytest.mark.parametrize("label", [0, 1001])
def test_labels_of_another_data_set_are_refused_before_training(shards, tmp_path, label):
    write(tmp_path / "train-00021-of-00024", [imagenet_record(label)] * PER_FILE)
    with pytest.raises(ValueError, match=rf"train-00021-of-00024__0: label {label - 1} is outside 0\.\.999"):
        dataset_info(shards)


def test_a_wrong_label_after_the_first_record_stops_training(shards, tmp_path):
    write(tmp_path / "train-00021-of-00024", [imagenet_record(label) for label in (1, 5, 2000)])
    batches = train_batches(shards, image_size=8, magnitude=0.0, batch_size=12, start_step=0, seed=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"train-00021-of-00024__2[\s\S]*1999"):
        next(batches)


def test_the_check_names_every_wrong_label(shards, tmp_path):
    write(tmp_path / "train-00021-of-00024", [imagenet_record(label) for label in (1, 0, 2000)])
    report = check_dataset(shards)
    assert report.train.broken == dict.fromkeys(
        ("train-00021-of-00024__1", "train-00021-of-00024__2"), "has a label outside 0..999"
    )
    assert sum(report.train.class_counts) == 10  # without the wrong labels


def test_records_of_another_structure_are_refused_before_training(shards, tmp_path):
    write(tmp_path / "train-00021-of-00024", [example(image=bytes_feature(PICTURE))] * PER_FILE)
    with pytest.raises(ValueError, match=r"train-00021-of-00024__0 .* imagenet2012_tfrecords"):
        dataset_info(shards)


def test_a_file_cut_short_is_refused_before_training(shards, tmp_path):
    path = tmp_path / "train-00022-of-00024"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="train-00022-of-00024 is damaged"):
        dataset_info(shards)
