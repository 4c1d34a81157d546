"""A source of encoded images: one host's share of one split, in whatever form it is stored."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable

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
      read: seed → the entries of the share. The seed None gives them in the stored order. A scalar int64 tensor gives
        them in an order drawn from it, which may be coarse (whole files), because a buffer shuffles them afterwards.
      load: an entry's `image` → encoded bytes; called after shuffling, in parallel.
      sizes: returns a digest of the sizes of the stored files, or "" if they would take too long to find. It reads no
        contents.
      multi_hot: whether images have several classes.
    """

    num_examples: int
    largest_share: int
    class_names: tuple[str, ...]
    origin: str
    entry_bytes: float
    read: Callable[[tf.Tensor | None], tf.data.Dataset]
    load: Callable[[tf.Tensor], tf.Tensor] = lambda image: image
    sizes: Callable[[], str] = lambda: ""
    multi_hot: bool = False


def digest_of(lines: Iterable[str]) -> str:
    """Returns a short digest of lines of text."""
    whole = hashlib.sha256()
    for line in lines:
        whole.update(f"{line}\n".encode())
    return whole.hexdigest()[:16]


def labels_fit(label: tf.Tensor, classes: int, *, unlabelled: bool = False) -> tf.Tensor:
    """Returns whether all labels of an entry are in `0 … classes - 1`; `unlabelled` entries may have none at all."""
    return tf.reduce_all((label >= 0) & (label < classes)) & (unlabelled | (tf.size(label) > 0))


def share(num_examples: int, host_index: int, host_count: int) -> tuple[int, int]:
    """Returns the range of examples that a host reads: (first, end). Ranges differ in length by at most one.

    Raises:
      ValueError: if the host does not exist, or there are fewer examples than hosts.
    """
    if not 0 <= host_index < host_count:
        raise ValueError(f"host_index {host_index} must be in 0..{host_count - 1}")
    if num_examples < host_count:
        raise ValueError(f"{num_examples} examples cannot be shared by {host_count} hosts")
    return num_examples * host_index // host_count, num_examples * (host_index + 1) // host_count
