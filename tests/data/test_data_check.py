"""The check of a data set."""

import dataclasses

import pytest
from data.pictures import encoded, picture

from effnetv2_jax.data.check import DataReport, SplitReport, check_dataset


def test_a_sound_data_set_is_reported_as_sound(digits):
    seen = []
    report = check_dataset(digits, lambda done, total: seen.append((done, total)))
    assert report.sound
    assert (report.train.examples, report.evaluation.examples) == (1437, 360)
    assert report.train.smallest == report.train.largest == (8, 8)
    assert sum(report.train.class_counts) == 1437
    assert min(report.evaluation.class_counts) == 35
    assert report.shared == ()
    assert seen[-1] == (1797, 1797)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_every_fault_is_found_and_named(make_folder, pets):
    config = make_folder(
        pets
        | {
            "train/cat/copy.jpg": pets["train/cat/0.jpg"],
            "train/dog/empty.jpg": b"",
            "train/dog/big.png": encoded(picture(7, 90, 60), "PNG"),
            "val/cat/leak.jpg": pets["train/dog/5.jpg"],
            "val/cat/text.jpg": b"text",
        }
    )
    report = check_dataset(config)
    assert not report.sound
    assert report.class_names == ("cat", "dog")
    assert report.train.examples == 15
    assert report.train.class_counts == (7, 8)
    assert report.train.broken == {"train/dog/empty.jpg": "is empty"}
    assert report.evaluation.broken == {"val/cat/text.jpg": "is not an image"}
    assert (report.train.duplicates, report.evaluation.duplicates) == (1, 0)
    assert report.shared == (("train/dog/5.jpg", "val/cat/leak.jpg"),)
    assert (report.train.smallest, report.train.largest) == ((24, 32), (90, 60))


@pytest.mark.parametrize(
    "fault", [{"broken": {"x": "is empty"}}, {"class_counts": (0, 1)}, None], ids=["broken", "empty class", "shared"]
)
def test_a_single_fault_makes_a_data_set_unsound(fault):
    side = SplitReport(2, (1, 1), (8, 8), (9, 9), 100.0, {}, 0)
    report = DataReport(("a", "b"), side, side, ())
    assert report.sound
    faulty = {"train": dataclasses.replace(side, **fault)} if fault else {"shared": (("a", "b"),)}
    assert not dataclasses.replace(report, **faulty).sound
