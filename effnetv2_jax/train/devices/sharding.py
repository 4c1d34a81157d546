"""The mesh over all devices, and how state and batches lie on it."""

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
"""Batches that lie on the devices beside the one in use."""


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh of one axis, `data`, over devices (None: those of all processes).

    They come slice by slice and process by process. So each process holds consecutive rows of a batch, in the order of
    the processes, and devices that share a BatchNorm group are on one host if a host has enough. `jax.make_mesh` orders
    by the network instead, which an axis that is only summed over does not need, and refuses several slices.

    Raises:
      ValueError: if processes have different numbers of devices.
    """
    ordered = sorted(jax.devices() if devices is None else devices, key=_place)
    counts = collections.Counter(device.process_index for device in ordered)
    if len(set(counts.values())) > 1:
        raise ValueError(f"each process must have equally many devices, got {dict(counts)}")
    return Mesh(np.array(ordered), ("data",), axis_types=(AxisType.Auto,))


def _place(device: jax.Device) -> tuple[int, int, int]:
    return getattr(device, "slice_index", None) or 0, device.process_index, device.id


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of the state: a copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: its first axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(name: str, batch_size: int, devices: int, processes: int = 1) -> None:
    """Refuses a global batch that does not divide over the devices, and over the processes.

    Raises:
      ValueError: naming the nearest sizes that do.
    """
    unit = math.lcm(devices, processes)
    if batch_size < 1 or batch_size % unit:
        below, above = batch_size // unit * unit, -(-max(batch_size, 1) // unit) * unit
        nearest = f"{below} or {above}" if below > 0 else f"{above}"
        over = f"{devices} devices" + (f" of {processes} processes" if processes > 1 else "")
        raise ValueError(f"{name} {batch_size} does not divide over {over}; the nearest that do: {nearest}")


def groups_fit(group_size: int, images: int, devices: int) -> bool:
    """Tells whether each group of BatchNorm is a part of one device's images or all of several devices'.

    A size of 0, or of at least `images`, means one group of them all.
    """
    share = max(1, images // devices)
    whole = group_size == 0 or group_size >= images
    return whole or (images % group_size == 0 and (group_size % share == 0 or share % group_size == 0))


def check_group_size(group_size: int, images: int, devices: int) -> None:
    """Refuses groups of BatchNorm (0, or at least `images`: one) that would straddle more devices than they fill.

    Args:
      group_size: images in a group.
      images: that are normalised at once, on all devices together.
      devices: that they are divided over.

    Raises:
      ValueError: naming the nearest sizes that fit.
    """

    def fits(size: int) -> bool:
        return groups_fit(size, images, devices)

    if not fits(group_size):
        below = max(size for size in range(1, group_size) if fits(size))
        above = min((size for size in range(group_size, images) if fits(size)), default=images)
        raise ValueError(
            f"model.bn_group_size {group_size} does not divide {images} images on {devices} devices into groups of "
            f"whole devices or parts of one; the nearest that do: {below} or {above}"
        )


def global_batch(batch: HostBatch, sharding: NamedSharding) -> dict[str, jax.Array]:
    """Returns the global arrays of which each process holds its share."""
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Returns a tree of arrays that every process has alike as global arrays, a copy on each device.

    Unlike `jax.device_put` it does not compare the processes' values, which takes a program for each shape.
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
    """Yields global batches, with the next `AHEAD` of them on their way to the devices."""
    queue: collections.deque[dict[str, jax.Array]] = collections.deque()
    for batch in batches:
        queue.append(global_batch(batch, sharding))
        if len(queue) > AHEAD:
            yield queue.popleft()
    yield from queue


def with_sharding(tree: Any, sharding: NamedSharding) -> Any:
    """Returns the shapes of a tree as `jax.ShapeDtypeStruct` that carry a sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
