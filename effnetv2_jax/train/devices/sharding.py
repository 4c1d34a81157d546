"""The mesh over all devices, and how the state and batches are placed on it."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

HostBatch = Mapping[str, np.ndarray]

AHEAD = 2
"""Number of batches that wait on the devices while another one is in use."""


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh with the single axis `data` over devices; None takes those of all processes.

    Devices are ordered by slice, then by process. Each process therefore holds consecutive rows of a batch, and devices
    that share a BatchNorm group belong to one host if that host has enough of them. `jax.make_mesh` would order them by
    the network between the chips, which a mesh that only sums over its axis does not need. It also refuses several
    slices.

    Raises:
      ValueError: if processes have different numbers of devices.
    """
    ordered = sorted(jax.devices() if devices is None else devices, key=_place)
    counts = collections.Counter(device.process_index for device in ordered)
    if len(set(counts.values())) > 1:
        raise ValueError(f"each process must have the same number of devices, got {dict(counts)}")
    return Mesh(np.array(ordered), ("data",), axis_types=(AxisType.Auto,))


def _place(device: jax.Device) -> tuple[int, int, int]:
    return getattr(device, "slice_index", None) or 0, device.process_index, device.id


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that puts a copy on each device, as for the state."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that divides the first axis over the devices, as for a batch."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(name: str, batch_size: int, devices: int, processes: int = 1) -> None:
    """Checks that a global batch divides over the devices and over the processes.

    Raises:
      ValueError: if it does not; the message names the nearest sizes that do.
    """
    unit = math.lcm(devices, processes)
    if batch_size < 1 or batch_size % unit:
        below, above = batch_size // unit * unit, -(-max(batch_size, 1) // unit) * unit
        nearest = f"{below} or {above}" if below > 0 else f"{above}"
        over = f"{devices} devices" + (f" of {processes} processes" if processes > 1 else "")
        raise ValueError(f"{name} {batch_size} does not divide over {over}; the nearest that do: {nearest}")


def groups_fit(group_size: int, images: int, devices: int) -> bool:
    """Returns whether each BatchNorm group is a part of one device's images, or all images of several devices.

    A size of 0, or of at least `images`, means one group of all images, which always fits.
    """
    share = max(1, images // devices)
    whole = group_size == 0 or group_size >= images
    return whole or (images % group_size == 0 and (group_size % share == 0 or share % group_size == 0))


def check_group_size(group_size: int, images: int, devices: int) -> None:
    """Checks that BatchNorm groups match the devices, see `groups_fit`.

    Args:
      group_size: images in a group.
      images: images in a batch or microbatch, on all devices together.
      devices: number of devices that the images are divided over.

    Raises:
      ValueError: if they do not; the message names the nearest sizes that do.
    """

    def fits(size: int) -> bool:
        return groups_fit(size, images, devices)

    if not fits(group_size):
        below = max(size for size in range(1, group_size) if fits(size))
        above = min((size for size in range(group_size, images) if fits(size)), default=images)
        raise ValueError(
            f"model.bn_group_size {group_size} does not fit {images} images on {devices} devices: a group must be a "
            f"part of one device's images or all images of several devices; the nearest sizes that fit: "
            f"{below} or {above}"
        )


def global_batch(batch: HostBatch, sharding: NamedSharding) -> dict[str, jax.Array]:
    """Returns the global arrays of which each process passes its share."""
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Returns a tree of global arrays with a copy on each device; all processes must pass the same values.

    `jax.device_put` would compare the processes' values, which takes a compiled program for each shape.
    """
    whole = replicated(mesh)
    if jax.process_count() == 1:
        return jax.device_put(tree, whole)

    def put(x: Any) -> jax.Array:
        if getattr(x, "sharding", None) == whole:
            return x
        return jax.make_array_from_process_local_data(whole, np.asarray(x), np.shape(x))

    return jax.tree.map(put, tree)


def on_devices(batches: Iterable[HostBatch], sharding: NamedSharding) -> Iterator[dict[str, jax.Array]]:
    """Yields global batches, while the next `AHEAD` of them are being copied to the devices."""
    queue: collections.deque[dict[str, jax.Array]] = collections.deque()
    for batch in batches:
        queue.append(global_batch(batch, sharding))
        if len(queue) > AHEAD:
            yield queue.popleft()
    yield from queue


def with_sharding(tree: Any, sharding: NamedSharding) -> Any:
    """Returns a tree's shapes as `jax.ShapeDtypeStruct` with a sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
