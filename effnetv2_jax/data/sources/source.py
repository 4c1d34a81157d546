"""A source of encoded images: one host's share of one split, in whatever form it is stored."""

import dataclasses
from collections.abc import Callable

from effnetv2_jax.data.cpu_tensorflow import tf


@dataclasses.dataclass(frozen=True)
class Source:
    """One host's share of a split.

    An *entry* is a dict of scalars: `id` (string, the same on every host and in every run), `image` (string, from which
    `load` gets the encoded bytes) and `label` (int64, or int64 `[k]` if images have several classes).

    Attributes:
      num_examples: number of examples in this host's share.
      largest_share: number of examples in the largest share of any host; shares differ by at most one.
      class_names: one name for each class, in the order of the labels.
      origin: one line that identifies the data; equal origins mean equal examples in equal splits.
      entry_bytes: mean number of bytes that an entry occupies in memory.
      read: seed → the entries of the share. With a scalar int64 tensor, the files come in an order drawn from it; with
        None, in the stored order. This may shuffle coarsely, because a buffer shuffles the entries afterwards.
      load: an entry's `image` → encoded bytes; called after shuffling, in parallel.
    """

    num_examples: int
    largest_share: int
    class_names: tuple[str, ...]
    origin: str
    entry_bytes: float
    read: Callable[[tf.Tensor | None], tf.data.Dataset]
    load: Callable[[tf.Tensor], tf.Tensor] = lambda image: image


def labels_fit(label: tf.Tensor, classes: int) -> tf.Tensor:
    """Returns whether an entry has a label, and its label or each of its labels is in `0 … classes - 1`."""
    return tf.reduce_all((label >= 0) & (label < classes)) & (tf.size(label) > 0)


def share(num_examples: int, host_index: int, host_count: int) -> tuple[int, int]:
    """Returns the first example that a host reads and the end of its range; ranges differ in length by at most one.

    Raises:
      ValueError: if the host does not exist, or there are fewer examples than hosts.
    """
    if not 0 <= host_index < host_count:
        raise ValueError(f"host_index {host_index} must be in 0..{host_count - 1}")
    if num_examples < host_count:
        raise ValueError(f"{num_examples} examples cannot be shared by {host_count} hosts")
    return num_examples * host_index // host_count, num_examples * (host_index + 1) // host_count
