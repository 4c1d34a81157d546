"""The mesh over all devices, and how state and batches lie on it."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

HostBatch = Mapping[str, np.ndarray]


def make_mesh() -> Mesh:
    """Returns a mesh of one axis, `data`, over the devices of all processes."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of the state: a copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch: its first axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(name: str, batch_size: int, devices: int) -> None:
    """Refuses a global batch that does not divide over the devices.

    Raises:
      ValueError: naming the nearest sizes that do.
    """
    if batch_size < 1 or batch_size % devices:
        below, above = batch_size // devices * devices, -(-max(batch_size, 1) // devices) * devices
        nearest = f"{below} or {above}" if below > 0 else f"{above}"
        raise ValueError(f"{name} {batch_size} does not divide over {devices} devices; the nearest that do: {nearest}")


def global_batch(batch: HostBatch, sharding: NamedSharding) -> dict[str, jax.Array]:
    """Returns the global arrays of which each process holds its share."""
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def on_devices(batches: Iterable[HostBatch], sharding: NamedSharding, ahead: int = 2) -> Iterator[dict[str, jax.Array]]:
    """Yields global batches, with `ahead` of them on their way to the devices."""
    queue: collections.deque[dict[str, jax.Array]] = collections.deque()
    for batch in batches:
        queue.append(global_batch(batch, sharding))
        if len(queue) > ahead:
            yield queue.popleft()
    yield from queue


def with_sharding(tree: Any, sharding: NamedSharding) -> Any:
    """Returns the shapes of a tree as `jax.ShapeDtypeStruct` that carry a sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
