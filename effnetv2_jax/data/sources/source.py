"""A source of encoded images: one host's share of one split, whatever it is stored in."""

import dataclasses
from collections.abc import Callable

from effnetv2_jax.data.cpu_tensorflow import tf


@dataclasses.dataclass(frozen=True)
class Source:
    """One host's share of a split.

    An *entry* is a dict of scalars: `id` (string, the same on any host and in any run), `image` (string, what `load`
    turns into the encoded bytes) and `label` (int64; int64 `[k]` where images have several classes).

    Attributes:
      num_examples: examples in this host's share.
      largest_share: examples in the largest share of any host; shares differ by at most one.
      class_names: one name per class, in the order of the labels.
      origin: what the data was, in one line; equal origins mean equal examples in equal splits.
      entry_bytes: mean bytes that an entry occupies in memory.
      read: seed → the share's entries. A scalar int64 tensor gives the files in an order drawn from it; None gives the
        stored order. The seed only has to shuffle coarsely: a buffer of entries follows.
      load: an entry's `image` → encoded bytes; runs after shuffling, in parallel.
    """

    num_examples: int
    largest_share: int
    class_names: tuple[str, ...]
    origin: str
    entry_bytes: float
    read: Callable[[tf.Tensor | None], tf.data.Dataset]
    load: Callable[[tf.Tensor], tf.Tensor] = lambda image: image


def labels_fit(label: tf.Tensor, classes: int) -> tf.Tensor:
    """Whether an entry's label, or each of its labels, is in `0 … classes - 1`; an entry without one does not fit."""
    return tf.reduce_all((label >= 0) & (label < classes)) & (tf.size(label) > 0)


def share(num_examples: int, host_index: int, host_count: int) -> tuple[int, int]:
    """Returns the half-open range of examples that a host reads; the ranges' lengths differ by at most one.

    Raises:
      ValueError: the host does not exist, or there are fewer examples than hosts.
    """
    if not 0 <= host_index < host_count:
        raise ValueError(f"host_index {host_index} must be in 0..{host_count - 1}")
    if num_examples < host_count:
        raise ValueError(f"{num_examples} examples cannot be shared by {host_count} hosts")
    return num_examples * host_index // host_count, num_examples * (host_index + 1) // host_count
