"""The table of data sets and their splits."""

import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from effnetv2_jax.data.sources.datasets import DATASETS, dataset_spec, ranges, resolve_splits

SHARED = r"share \d+ examples"


@pytest.mark.parametrize("name", DATASETS)
def test_every_row_trains_and_evaluates_on_different_examples(name):
    spec = DATASETS[name]
    train, evaluation = resolve_splits(spec)
    if not spec.split_sizes:  # test_folder and test_shards cover splits that depend on the data
        assert train != evaluation
        return
    seen = {stored: np.zeros(size, np.int8) for stored, size in spec.split_sizes.items()}
    for split in (train, evaluation):
        for stored, first, end in ranges(spec, split, spec.split_sizes):
            seen[stored][first:end] += 1
    assert all(times.max(initial=0) <= 1 for times in seen.values())
    assert sum(times.sum() for times in seen.values()) > 1000


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"folder", "parquet", "webdataset", "converted"}))
def test_every_row_has_classes_and_sizes(name):
    spec = DATASETS[name]
    assert spec.num_classes > 1
    assert all(size > 0 for size in spec.split_sizes.values())
    if spec.tfds_name and spec.name != "digits":
        assert tfds.builder(spec.tfds_name).info.features["label"].num_classes == spec.num_classes


@pytest.mark.parametrize("split", ["train[2%:]", "train[98%:]"])
@pytest.mark.parametrize("alias", ["minival", "trainval"])
def test_imagenets_minival_is_held_out_of_the_default_training_split_only(alias, split):
    spec = dataset_spec("imagenet2012")
    assert resolve_splits(spec, "", "minival") == ("train[:98%]", "train[98%:]")
    with pytest.raises(ValueError, match=SHARED):
        resolve_splits(spec, "trainval", alias)
    if split == "train[2%:]":  # the official code's minival
        with pytest.raises(ValueError, match=SHARED):
            resolve_splits(spec, "", split)


@pytest.mark.parametrize(
    ("name", "train", "evaluation"),
    [
        ("tf_flowers", "train[:70%]", "train[30%:]"),
        ("oxford_flowers102", "train+validation", "validation"),
        ("imagenet21k", "trainval", "minival"),
        ("imagenet2012_tfrecords", "trainval", "minival"),
    ],
)
def test_the_official_codes_overlapping_splits_are_refused(name, train, evaluation):
    with pytest.raises(ValueError, match=SHARED):
        resolve_splits(dataset_spec(name), train, evaluation)


@given(st.lists(st.integers(0, 100), min_size=4, max_size=4))
@settings(deadline=None, max_examples=50)
def test_two_parts_of_a_split_are_refused_if_they_share_examples(bounds):
    spec = dataset_spec("tf_flowers")
    train, evaluation = (f"train[{first}%:{end}%]" for first, end in (bounds[:2], bounds[2:]))
    parts = [
        set(range(*(round(bound * 36.70) for bound in pair))) if pair[0] < pair[1] else set()
        for pair in (bounds[:2], bounds[2:])
    ]
    if not all(parts):
        return
    if parts[0] & parts[1]:
        with pytest.raises(ValueError, match=SHARED):
            resolve_splits(spec, train, evaluation)
    else:
        assert resolve_splits(spec, train, evaluation) == (train, evaluation)


def test_unknown_names_are_refused_with_the_allowed_ones():
    with pytest.raises(ValueError, match=r"'mnist' \(allowed: digits, cifar10, .*folder\)"):
        dataset_spec("mnist")
    with pytest.raises(ValueError, match=r"'tain'.* minival, trainval, train, validation"):
        resolve_splits(dataset_spec("imagenet2012"), "tain")


BOUNDS = st.sampled_from(
    ["", "0", "7", "-3", "3670", "4000", "0%", "3%", "50%", "-1%", "100%", "101%", "0.5%", "1shard"]
)


@given(st.lists(st.tuples(st.sampled_from(["train", "test", "all", "none"]), BOUNDS, BOUNDS), min_size=1, max_size=3))
@settings(deadline=None, max_examples=300)
def test_a_split_covers_the_examples_that_tfds_reads(parts):
    spec, sizes = dataset_spec("tf_flowers"), {"train": 3670, "test": 45}
    split = " + ".join(f"{name}[{first}:{end}]" if first or end else name for name, first, end in parts)
    stored = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0, filename_template=None)
        for name, size in sizes.items()
    }
    try:
        read = tfds.core.ReadInstruction.from_spec(split).to_absolute(stored)
    except (AssertionError, KeyError, NotImplementedError, ValueError):
        with pytest.raises(ValueError, match="unknown split"):
            ranges(spec, split, sizes)
    else:
        assert ranges(spec, split, sizes) == [
            (part.splitname, part.from_ or 0, sizes[part.splitname] if part.to is None else part.to) for part in read
        ]


def test_the_default_splits_are_found_without_tfds(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    for spec in DATASETS.values():
        resolve_splits(spec)
    assert ranges(dataset_spec("imagenet2012"), "train[:98%]", {"train": 1_281_167}) == [("train", 0, 1_255_544)]
    with pytest.raises(ValueError, match="unknown split 'tain'"):
        resolve_splits(dataset_spec("imagenet2012"), "tain")
