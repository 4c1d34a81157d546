"""Whether the storage has room for the checkpoints of a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Any

import numpy as np
from etils import epath

from effnetv2_jax.byte_size import byte_size
from effnetv2_jax.paths import in_bucket
from effnetv2_jax.train.checkpoint.arrays import named_leaves


def state_bytes(abstract: Any) -> int:
    """Returns the bytes of all arrays of a state, given as arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in named_leaves(abstract).values())


def check_free_space(folder: epath.Path, size: int, keep: int, saved: Iterable[int]) -> None:
    """Checks that a local disk has room for the checkpoints that a run will keep, and for one being written.

    The free space of a bucket is not limited.

    Args:
      folder: the folder of checkpoints, or one that it will be made in.
      size: bytes of a checkpoint.
      keep: number of latest checkpoints that are kept besides the best one.
      saved: steps of the checkpoints that are there already.

    Raises:
      OSError: if the room does not suffice.
    """
    if in_bucket(folder):
        return
    missing = keep + 2 - len(list(saved))  # the best one, and the one being written
    free = shutil.disk_usage(next(parent for parent in (folder, *folder.parents) if parent.exists())).free
    if missing > 0 and missing * size > free:
        raise OSError(
            f"{folder} has {byte_size(free)} of free space, but {missing} more checkpoints of {byte_size(size)} each "
            f"need {byte_size(missing * size)}: free some, use another --workdir, or reduce checkpoint.keep, now {keep}"
        )
