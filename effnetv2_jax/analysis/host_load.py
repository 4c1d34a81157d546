"""What a TPU's hosts have to read and decode: their machines as rows of data, and whether they keep up with a plan."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from effnetv2_jax.analysis.topology import Topology


class Host(NamedTuple):
    """A machine with TPU chips.

    Source: the pages "TPU v5e", "TPU v5p" and "TPU v6e" of cloud.google.com/tpu/docs, and "TPUs in GKE" of
    cloud.google.com/kubernetes-engine/docs for v3 and v4. The network is that of the data centre, by the chip.

    Attributes:
      chip: the generation of its chips.
      chips: number of chips.
      cores: number of virtual CPU cores.
      network: bits per second of its network; 0 if the pages do not say.
    """

    chip: str
    chips: int
    cores: int
    network: float


_SHARED_BY = 4
"""Chips of a host in slices of several hosts."""

_ROWS = (
    Host("v3", 4, 96, 0),
    Host("v4", 4, 240, 0),
    Host("v5e", 1, 24, 25e9),
    Host("v5e", 4, 112, 100e9),
    Host("v5e", 8, 224, 200e9),
    Host("v5p", 4, 208, 200e9),
    Host("v6e", 1, 44, 100e9),
    Host("v6e", 4, 180, 400e9),
    Host("v6e", 8, 180, 800e9),
)
HOSTS = {(host.chip, host.chips): host for host in _ROWS}

# Images that this project's pipeline decodes and augments per CPU second, by their side in pixels. Source: `effnetv2
# bench --input --generated --config imagenet1k:efficientnetv2-s`, on JPEG files of ImageNet's typical size.
_DECODED = {171: 961.0, 214: 830.0, 257: 674.0, 300: 625.0}

# Bytes of a file of ImageNet's training images. Source: the catalogue of TensorFlow Datasets, imagenet2012: 144 GB for
# 1,331,167 training and validation images.
_FILE_BYTES = 108_000


@dataclasses.dataclass(frozen=True)
class HostLoad:
    """What each host of a slice has to do for a training program, so that the chips need not wait.

    Attributes:
      host: the machine.
      hosts: number of such machines.
      images_per_second: images that it decodes.
      bytes_per_second: bytes that it reads.
      cores_needed: cores that decode and augment these images.
    """

    host: Host
    hosts: int
    images_per_second: float
    bytes_per_second: float
    cores_needed: float

    @property
    def limit(self) -> str:
        """What limits the speed: the `chips`, `reading` over the network, or `decoding` on the host's cores."""
        shares = {
            "chips": 1.0,
            "decoding": self.cores_needed / self.host.cores,
            "reading": 8 * self.bytes_per_second / self.host.network if self.host.network else 0.0,
        }
        return max(shares, key=lambda name: shares[name])


def hosts_of(topology: Topology) -> tuple[Host, int]:
    """Returns the machine of a slice, or of several slices, and how many there are."""
    of_slice = topology.chips // topology.slices
    host = HOSTS.get((topology.chip.name, of_slice)) or HOSTS[topology.chip.name, _SHARED_BY]
    return host, topology.slices * max(1, of_slice // host.chips)


def host_load(topology: Topology, image_size: int, images_per_second: float, parts: int) -> HostLoad:
    """Returns what each host has to do.

    Args:
      topology: the slice.
      image_size: height and width of the training images in pixels.
      images_per_second: images that all chips train on together.
      parts: parts of the training split. Each host reads those that its rows come from, so several hosts read the same
        files if there are fewer parts than hosts.
    """
    host, hosts = hosts_of(topology)
    share = images_per_second / hosts
    return HostLoad(
        host=host,
        hosts=hosts,
        images_per_second=share,
        bytes_per_second=share * max(1.0, hosts / parts) * _FILE_BYTES,
        cores_needed=share * seconds_to_decode(image_size),
    )


def seconds_to_decode(image_size: int) -> float:
    """Returns the CPU seconds for a training image with RandAugment: a straight line in the number of its pixels."""
    pixels = np.array([side**2 for side in _DECODED], float)
    slope, start = np.polyfit(pixels, 1 / np.array(list(_DECODED.values())), 1)
    return float(start + slope * image_size**2)
