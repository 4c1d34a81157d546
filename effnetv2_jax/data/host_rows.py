"""Which rows of each global batch a host makes. Imports no TensorFlow."""

from typing import NamedTuple


class HostRows(NamedTuple):
    """A host's rows of every global batch, the same images in the same rows whatever the number of hosts.

    A global batch is made of `rows` images of each part of the training split in turn; host h of H makes its h-th share
    of it: of each part in `parts` the rows `skip … skip + take - 1`.
    """

    parts: range
    rows: int
    skip: int
    take: int


def host_rows(batch_size: int, parts: int, host_index: int, host_count: int) -> HostRows:
    """Returns the rows of a host.

    Args:
      batch_size: of all hosts together.
      parts: that the training split is cut into.
      host_index: this host.
      host_count: the number of hosts.

    Raises:
      ValueError: the host does not exist, the batch does not divide by the parts or the hosts, or a host would need a
        fraction of a part more than whole ones.
    """
    if not 0 <= host_index < host_count:
        raise ValueError(f"host_index {host_index} must be in 0..{host_count - 1}")
    if batch_size % host_count:
        raise ValueError(f"a batch of {batch_size} does not divide over {host_count} hosts")
    if batch_size % parts:
        raise ValueError(f"data.parts {parts} does not divide the batch of {batch_size}")
    if max(parts, host_count) % min(parts, host_count):
        nearest = f"{parts // host_count * host_count or 1} or {-(-parts // host_count) * host_count}"
        raise ValueError(
            f"data.parts {parts} is neither a multiple nor a divisor of {host_count} hosts; nearest: {nearest}"
        )
    rows, take = batch_size // parts, batch_size // max(parts, host_count)
    first = host_index * parts // host_count
    position = host_index * batch_size // host_count - first * rows
    return HostRows(range(first, first + max(1, parts // host_count)), rows, position, take)
