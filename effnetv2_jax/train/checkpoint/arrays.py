"""The arrays of a state by name, and their digests.

A name is the path of an array in its tree, such as `params/stem_conv/kernel` or `opt_state/0/nu/stem_conv/kernel`.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")

Arrays = Mapping[str, np.ndarray]
"""Host arrays by name."""


def named_leaves(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by name, in the tree's order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def like_tree(tree: Any, arrays: Mapping[str, Any]) -> Any:
    """Returns a tree with the structure of `tree`, whose leaves are taken from `arrays` by name."""
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[name] for name in named_leaves(tree)])


def snapshot(state: Any, reuse: Arrays | None = None) -> dict[str, np.ndarray]:
    """Copies the arrays of a state from a device into host memory, and returns them by name.

    The copies are this program's own, so that the state may be donated to the next step at once. All copies from an
    accelerator are started before the first one is waited for.

    Args:
      state: the state.
      reuse: an earlier snapshot of such a state, which may be overwritten. On a CPU, new memory would take longer.
    """
    leaves = {name: leaf.addressable_data(0) for name, leaf in named_leaves(state).items()}
    if jax.default_backend() == "cpu":  # there NumPy would only view the memory of the device
        targets = reuse or {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
        _each(lambda name: np.copyto(targets[name], leaves[name]), leaves)
        return dict(targets)
    for leaf in leaves.values():
        leaf.copy_to_host_async()
    return {name: np.asarray(leaf) for name, leaf in leaves.items()}


def digest(array: np.ndarray) -> str:
    """Returns the hexadecimal SHA-256 of an array's dtype, shape and bytes."""
    array = np.asarray(array)
    computed = hashlib.sha256(description(array).encode())
    computed.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return computed.hexdigest()


def digests(arrays: Arrays) -> dict[str, str]:
    """Returns the digest of each array by name. They are computed in parallel."""
    return dict(zip(arrays, _each(digest, arrays.values()), strict=True))


def whole_digest(by_name: Mapping[str, str]) -> str:
    """Returns the hexadecimal SHA-256 of the names and digests of all arrays, in alphabetical order of the names."""
    return hashlib.sha256("".join(f"{by_name[name]} {name}\n" for name in sorted(by_name)).encode()).hexdigest()


def description(array: Any) -> str:
    """Returns dtype and shape of an array or of its abstract form, such as `float32[3,3,24,48]`."""
    return f"{np.dtype(array.dtype).name}[{','.join(map(str, array.shape))}]"


def _each(function: Callable[[Any], T], values: Iterable[Any]) -> list[T]:
    """Applies a function that releases the interpreter's lock, such as hashing or copying, in several threads."""
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return list(threads.map(function, values))
