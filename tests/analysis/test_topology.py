"""TPU slices by name."""

import pytest

from effnetv2_jax.analysis.topology import Topology, parse_topology
from effnetv2_jax.train.devices.chips import CHIPS


# Source of the grids: the "system architecture" pages of cloud.google.com/tpu/docs.
@pytest.mark.parametrize(
    ("name", "full_name", "devices"),
    [
        ("v3-8", "v3:2x2", 8),
        ("v3-32", "v3:4x4", 32),
        ("v4-8", "v4:2x2x1", 4),
        ("v4-16", "v4:2x2x2", 8),
        ("v4-32", "v4:2x2x4", 16),
        ("v4-128", "v4:4x4x4", 64),
        ("v5litepod-16", "v5e:4x4", 16),
        ("v5e-1", "v5e:1x1", 1),
        ("v5e-4", "v5e:2x2", 4),
        ("v5e-8", "v5e:2x4", 8),
        ("v5e-256", "v5e:16x16", 256),
        ("v5p-8", "v5p:2x2x1", 4),
        ("v6e-8", "v6e:2x4", 8),
        ("v5e:2x4", "v5e:2x4", 8),
        ("v4:2x2x4", "v4:2x2x4", 16),
        ("2xv5litepod-8", "2xv5e:2x4", 16),
        ("4xv4:2x2x4", "4xv4:2x2x4", 64),
        ("1xv3-8", "v3:2x2", 8),
    ],
)
def test_a_name_is_parsed_to_a_grid(name, full_name, devices):
    topology = parse_topology(name)
    assert (topology.name, topology.devices) == (full_name, devices)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v9-8", "'v9-8'.* v3-32, v4-32, v5e-8, v5p-32, v6e-8"),
        ("v5e", "unknown TPU"),
        ("", "unknown TPU"),
        ("tpu v4-8", "unknown TPU"),
        ("v4-1", "'v4-1'.* cores .* from 8 to 8192"),
        ("v5e-0", "'v5e-0'.* chips .* from 1 to 256"),
        ("v5e-12", "'v5e-12' is not a slice"),
        ("v5e-512", "'v5e-512' is not a slice"),
        ("v5e:64x64", "at most 256 chips"),
        ("v5e:2x2x2", "'v5e:2x2x2'.* 2 dimensions .* 256 chips, .* v5e:4x4"),
        ("v4:2x2", "3 dimensions"),
        ("v5e:0x4", "is not a grid"),
        ("0xv5e-8", "unknown TPU"),
    ],
)
def test_wrong_names_are_refused_with_the_allowed_ones(name, message):
    with pytest.raises(ValueError, match=message):
        parse_topology(name)


# The published clock rates, in GHz.
@pytest.mark.parametrize(("name", "clock"), [("v3", 0.94), ("v4", 1.05), ("v5e", 1.5), ("v5p", 1.75), ("v6e", 1.75)])
def test_clock_rates_follow_from_peak_flops(name, clock):
    assert CHIPS[name].clock / 1e9 == pytest.approx(clock, abs=0.01)


def test_equal_slices_compare_equal():
    assert parse_topology("v5e-8") == Topology(CHIPS["v5e"], (2, 4))
