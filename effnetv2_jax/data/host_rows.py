"""The rows of each global batch that a host makes. This module imports no TensorFlow."""

from typing import NamedTuple


class HostRows(NamedTuple):
    """One host's rows of every global batch.

    A global batch contains `rows` images of the first part of the training split, then `rows` images of the second, and
    so on. Host h of H makes the h-th of H equal shares of the batch. So the number of hosts does not change which image
    a row holds.

    Attributes:
      parts: the parts that the host reads.
      rows: number of images of each part in a global batch.
      skip: number of rows of each of its parts that the host leaves to earlier hosts.
      take: number of rows of each of its parts that the host makes.
    """

    parts: range
    rows: int
    skip: int
    take: int


def host_rows(batch_size: int, parts: int, host_index: int, host_count: int) -> HostRows:
    """Returns the rows of a host.

    Args:
      batch_size: number of images in a global batch.
      parts: number of parts of the training split.
      host_index: index of the host.
      host_count: number of hosts.

    Raises:
      ValueError: if the host does not exist, the batch is not divisible by the parts or the hosts, or the number of
        parts is neither a multiple nor a divisor of the number of hosts.
    """
    if not 0 <= host_index < host_count:
        raise ValueError(f"host_index {host_index} must be in 0..{host_count - 1}")
    if batch_size % host_count:
        raise ValueError(f"a batch of {batch_size} is not divisible by {host_count} hosts")
    if batch_size % parts:
        raise ValueError(f"a batch of {batch_size} is not divisible by data.parts {parts}")
    if max(parts, host_count) % min(parts, host_count):
        nearest = f"{parts // host_count * host_count or 1} or {-(-parts // host_count) * host_count}"
        raise ValueError(
            f"data.parts {parts} is neither a multiple nor a divisor of {host_count} hosts; nearest: {nearest}"
        )
    rows, take = batch_size // parts, batch_size // max(parts, host_count)
    first = host_index * parts // host_count
    position = host_index * batch_size // host_count - first * rows
    return HostRows(range(first, first + max(1, parts // host_count)), rows, position, take)
