"""The rows of each host. The global batches do not depend on the number of hosts."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnetv2_jax.data.host_rows import host_rows
from effnetv2_jax.data.pipeline import train_batches

BATCH, SIZE = 24, 8


def global_batches(config, hosts, count, start_step=0):
    """Returns the images of the first global batches, joined from the rows of all hosts."""
    shares = [
        list(
            itertools.islice(
                train_batches(
                    config, image_size=SIZE, magnitude=5.0, batch_size=BATCH // hosts, start_step=start_step, seed=1,
                    host_index=host, host_count=hosts,
                ),
                count,
            )
        )
        for host in range(hosts)
    ]  # fmt: skip
    return [np.concatenate([batch["image"] for batch in step]) for step in zip(*shares, strict=True)]


@pytest.mark.parametrize(("parts", "hosts"), [(1, (2, 3)), (2, (2, 4)), (6, (2, 3))])
def test_each_row_of_a_global_batch_is_the_same_image_for_any_number_of_hosts(digits, parts, hosts):
    config = dataclasses.replace(digits, parts=parts, augmentation="randaugment")
    alone = global_batches(config, 1, 3)
    for count in hosts:
        np.testing.assert_array_equal(global_batches(config, count, 3), alone)


@pytest.mark.parametrize("shuffle_buffer", [16_384, 100])
def test_with_parts_each_epoch_has_every_example_once_and_batches_resume(digits, shuffle_buffer):
    config = dataclasses.replace(digits, parts=3, flip=False, shuffle_buffer=shuffle_buffer)  # 3 parts of 479
    epoch = global_batches(config, 3, 60)
    resumed = global_batches(config, 1, 2, start_step=58)
    np.testing.assert_array_equal(resumed, epoch[58:])
    rows = [batch.reshape(3, 8, -1) for batch in epoch]
    for part in range(3):
        seen = np.concatenate([batch[part] for batch in rows])[:479]
        assert len(np.unique(seen, axis=0)) > 470  # a few digits look alike at 8 px


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_rows_are_disjoint_and_complete(parts, hosts, factor):
    batch = factor * parts * hosts
    if max(parts, hosts) % min(parts, hosts):
        with pytest.raises(ValueError, match=f"data.parts {parts} is neither"):
            host_rows(batch, parts, 0, hosts)
        return
    seen = []
    for host in range(hosts):
        share = host_rows(batch, parts, host, hosts)
        assert share.take * len(share.parts) == batch // hosts
        seen += [part * share.rows + share.skip + row for part in share.parts for row in range(share.take)]
    assert seen == list(range(batch))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((32, 1, 2, 2), r"host_index 2 must be in 0\.\.1"),
        ((33, 1, 0, 2), "33 .* 2 hosts"),
        ((32, 3, 0, 1), "32 .* data.parts 3"),
        ((36, 6, 0, 4), "data.parts 6 .* 4 hosts.* 4 or 8"),
        ((36, 2, 0, 3), "data.parts 2 .* 3 hosts.* 1 or 3"),
    ],
)
def test_hosts_and_batches_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        host_rows(*arguments)
