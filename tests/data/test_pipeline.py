"""Batches depend only on configuration, seed and step, and each epoch has every example once in a fixed order."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.dataset import open_source
from effnetv2_jax.data.pipeline import eval_batches, train_batches
from effnetv2_jax.data.sources.folder import FolderSplits, open_folder
from effnetv2_jax.data.sources.source import Source, share
from effnetv2_jax.data.stream import endless_entries

SIZE = 16


def batches(config: DataConfig, count: int, **changes):
    """Returns the first `count` training batches."""
    arguments = {"image_size": SIZE, "magnitude": 5.0, "batch_size": 100, "start_step": 0, "seed": 1} | changes
    return list(itertools.islice(train_batches(config, **arguments), count))


def contents(rows) -> list[bytes]:
    """Returns each image of some batches as bytes."""
    return [image.tobytes() for batch in rows for image in batch["image"]]


def assert_equal(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


# --- the step is the only state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", ["none", "randaugment"])
def test_batches_do_not_depend_on_the_step_at_which_the_pipeline_started(digits, augmentation):
    config = dataclasses.replace(digits, augmentation=augmentation, cutout=True, preprocessing="v2")
    straight = batches(config, 31, image_size=8)  # two epochs and a bit: 1,437 examples are 14.37 batches
    for step in (14, 29):  # the batch that spans two epochs, and one late in the second epoch
        assert_equal(batches(config, 2, image_size=8, start_step=step), straight[step : step + 2])


def test_a_stage_continues_where_the_previous_one_stopped(digits):
    labels = [batch["label"] for batch in batches(digits, 4)]
    later = batches(digits, 2, start_step=2, image_size=24, magnitude=9.0)
    np.testing.assert_array_equal([batch["label"] for batch in later], labels[2:])
    assert later[0]["image"].shape == (100, 24, 24, 3)


@pytest.mark.parametrize("shuffle_buffer", [16_384, 200])
def test_the_number_of_threads_changes_nothing(digits, shuffle_buffer):
    config = dataclasses.replace(digits, augmentation="randaugment", shuffle_buffer=shuffle_buffer)
    one, three = (batches(dataclasses.replace(config, threads=threads), 3, batch_size=479) for threads in (1, 3))
    assert_equal(one, three)


def test_another_seed_gives_another_order(digits):
    one, other = (contents(batches(digits, 1, seed=seed)) for seed in (1, 2))
    assert one != other
    assert len(set(one) & set(other)) < 20


def test_a_global_seed_of_tensorflow_changes_nothing(digits):
    expected = batches(digits, 2)
    tf.random.set_seed(1234)
    try:
        assert_equal(batches(digits, 2), expected)
    finally:
        tf.random.set_seed(None)


def test_a_share_that_fits_the_buffer_is_read_once():
    reads = []

    def read(_seed):
        def noted(position):
            reads.append(int(position))
            return position

        def entry(position):
            passed = tf.ensure_shape(tf.numpy_function(noted, [position], tf.int64), [])
            return {"id": tf.strings.as_string(passed)}

        return tf.data.Dataset.range(20).map(entry)

    source = Source(20, 20, ("one",), "numbers", 8.0, read)
    entries = endless_entries(source, seed=0, first_epoch=0, shuffle_buffer=20).take(60)
    names = [int(entry["id"]) for entry in entries.as_numpy_iterator()]
    assert sorted(names) == sorted([*range(20)] * 3)
    assert reads == [*range(20)]


def test_each_epoch_augments_images_differently(digits):
    config = dataclasses.replace(digits, augmentation="randaugment")
    first, second = (contents(batches(config, 1, batch_size=1437, start_step=epoch)) for epoch in (0, 1))
    assert len(set(first) & set(second)) < 300


# --- every example once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle_buffer", [16_384, 100])
def test_each_epoch_has_every_example_once_in_another_order(digits, shuffle_buffer):
    config = dataclasses.replace(digits, flip=False, shuffle_buffer=shuffle_buffer)
    one = contents(batches(config, 1, batch_size=1437))
    two = contents(batches(config, 1, batch_size=1437, start_step=1))
    stored = [row["image"] for row in eval_like_training(config)]
    assert sorted(one) == sorted(two) == sorted(image.tobytes() for image in stored)
    assert one != two


def eval_like_training(config: DataConfig):
    """Yields the examples of the training split as evaluation reads them."""
    swapped = dataclasses.replace(config, train_split="test", eval_split="train")
    for batch in eval_batches(swapped, image_size=SIZE, batch_size=479):
        for image, label, mask in zip(batch["image"], batch["label"], batch["mask"], strict=True):
            assert mask == 1
            yield {"image": image, "label": label}


def test_hosts_share_the_examples(digits):
    config = dataclasses.replace(digits, flip=False)
    alone = contents(batches(config, 1, batch_size=1437))
    shares = [contents(batches(config, 1, batch_size=479, host_index=host, host_count=3)) for host in range(3)]
    assert sorted(itertools.chain(*shares)) == sorted(alone)


@pytest.mark.parametrize(("batch_size", "hosts"), [(100, 1), (50, 3), (400, 1)])
def test_evaluation_yields_every_example_once_and_equally_many_batches_on_every_host(digits, batch_size, hosts):
    rows = [
        list(eval_batches(digits, image_size=8, batch_size=batch_size, host_index=host, host_count=hosts))
        for host in range(hosts)
    ]
    assert len({len(row) for row in rows}) == 1
    seen = [
        (image.tobytes(), int(label))
        for batch in itertools.chain(*rows)
        for image, label, mask in zip(batch["image"], batch["label"], batch["mask"], strict=True)
        if mask
    ]
    reference = next(eval_batches(digits, image_size=8, batch_size=360))
    expected = [
        (image.tobytes(), int(label)) for image, label in zip(reference["image"], reference["label"], strict=True)
    ]
    assert sorted(seen) == sorted(expected)
    for batch in itertools.chain(*rows):
        assert batch["image"].shape == (batch_size, 8, 8, 3)
        assert batch["mask"].dtype == np.float32
        assert not batch["image"][batch["mask"] == 0].any()


@given(st.integers(1, 10_000), st.integers(1, 64))
@settings(max_examples=60)
def test_shares_are_disjoint_complete_and_even(examples, hosts):
    if examples < hosts:
        with pytest.raises(ValueError, match="cannot be shared"):
            share(examples, 0, hosts)
        return
    bounds = [share(examples, host, hosts) for host in range(hosts)]
    assert [position for first, end in bounds for position in range(first, end)] == list(range(examples))
    assert max(end - first for first, end in bounds) == -(-examples // hosts)


# --- the order is part of the interface: if these digests change, earlier runs cannot be repeated ---------------------


def digest(entries: tf.data.Dataset) -> str:
    first = next(entries.take(10_000).batch(10_000).as_numpy_iterator())
    assert len(first["id"]) == 10_000
    return hashlib.sha256(b" ".join(first["id"]) + first["seed"].tobytes()).hexdigest()[:16]


def numbered_source(count: int) -> Source:
    """Returns `count` entries in 20 files, read in the order in which TFDS reads them."""

    def read(seed):
        files = tf.data.Dataset.range(20)
        if seed is not None:
            files = files.shuffle(20, seed, reshuffle_each_iteration=False)
        positions = files.interleave(
            lambda file: tf.data.Dataset.range(count // 20).map(lambda row: file * (count // 20) + row),
            cycle_length=16,
            block_length=16,
        )
        return positions.map(lambda position: {"id": tf.strings.as_string(position), "image": "", "label": position})

    return Source(count, count, ("one",), "numbers", 8.0, read)


@pytest.mark.parametrize(("shuffle_buffer", "expected"), [(16_384, "4123e5ef3af3c1f6"), (1_000, "683ecf73fa22fe44")])
def test_the_order_of_10000_examples_is_unchanged(shuffle_buffer, expected):
    entries = endless_entries(numbered_source(12_000), seed=7, first_epoch=3, shuffle_buffer=shuffle_buffer)
    assert digest(entries) == expected


def test_the_order_of_10000_digits_is_unchanged(digits):
    entries = endless_entries(open_source(digits, evaluation=False), seed=0, first_epoch=0, shuffle_buffer=16_384)
    assert digest(entries) == "5aaab5f2c8fa02d1"


@pytest.mark.parametrize(("shuffle_buffer", "expected"), [(16_384, "7012b58ce7552bcd"), (1_000, "2ca1fb1e521ec5fa")])
def test_the_order_of_10000_files_is_unchanged(shuffle_buffer, expected):
    files = tuple((f"train/{index % 7}/{index:05d}.jpg", index % 7) for index in range(12_000))
    listed = FolderSplits("", tuple("0123456"), files, (), "")
    source = open_folder(listed, 0, 1, evaluation=False)
    entries = endless_entries(source, seed=7, first_epoch=3, shuffle_buffer=shuffle_buffer)
    assert digest(entries) == expected
