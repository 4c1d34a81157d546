"""What a TPU's hosts have to read and decode."""

import pytest

from effnetv2_jax.analysis.host_load import HOSTS, host_load, hosts_of, seconds_to_decode
from effnetv2_jax.analysis.topology import parse_topology
from effnetv2_jax.train.devices.chips import CHIPS


@pytest.mark.parametrize(
    ("slice_", "chips", "hosts"),
    [
        ("v3-8", 4, 1), ("v3-32", 4, 4), ("v4-8", 4, 1), ("v4-32", 4, 4), ("v5e-1", 1, 1), ("v5e-4", 4, 1),
        ("v5e-8", 8, 1), ("v5e-16", 4, 4), ("v5e-256", 4, 64), ("v5p-8", 4, 1), ("v6e-8", 8, 1), ("2xv5e-16", 4, 8),
        ("v5e:1x2", 4, 1),
    ],
)  # fmt: skip
def test_a_slice_has_the_hosts_of_cloud_tpu(slice_, chips, hosts):
    host, count = hosts_of(parse_topology(slice_))
    assert (host.chips, count) == (chips, hosts)


def test_every_generation_has_a_host_for_slices_of_several():
    assert {(name, 4) for name in CHIPS} <= HOSTS.keys()


def test_decoding_takes_what_was_measured():
    for size, rate in ((171, 961), (214, 830), (257, 674), (300, 625)):
        assert 1 / seconds_to_decode(size) == pytest.approx(rate, rel=0.06)
    assert seconds_to_decode(480) > 2 * seconds_to_decode(171)


def test_hosts_that_share_a_part_read_it_each():
    slice_ = parse_topology("v5e-16")
    alone, together = (host_load(slice_, 171, 20_000, parts) for parts in (4, 1))
    assert alone.images_per_second == together.images_per_second == 5000
    assert together.bytes_per_second == 4 * alone.bytes_per_second == pytest.approx(4 * 5000 * 108_000)
    assert alone.cores_needed == pytest.approx(5000 / 961, rel=0.06)


@pytest.mark.parametrize(
    ("slice_", "rate", "parts", "limit"),
    [
        ("v5e-16", 20_000, 4, "chips"),
        ("v5e-16", 500_000, 4, "decoding"),
        ("v5e-256", 2_000_000, 1, "reading"),
        ("v4-32", 500_000, 4, "chips"),
        ("v4-32", 2_000_000, 1, "decoding"),  # the speed of its network is not known
    ],
)
def test_the_limit_is_what_takes_the_longest(slice_, rate, parts, limit):
    assert host_load(parse_topology(slice_), 171, rate, parts).limit == limit
