"""Trees of arrays as flat dicts by path, and patterns that select paths."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import jax
from flax import traverse_util


def flatten(tree: Any) -> dict[str, Any]:
    """Returns path → leaf, as in `block_0/fused_conv/kernel`."""
    return traverse_util.flatten_dict(tree, sep="/")


def unflatten(flat: dict[str, Any]) -> Any:
    """Returns the tree that `flatten` was given."""
    return traverse_util.unflatten_dict(flat, sep="/")


def split(tree: Any, paths: Collection[str]) -> tuple[Any, Any]:
    """Returns the leaves of a tree that are not at some paths, and those that are, as two trees."""
    flat = flatten(tree)
    others = {path: leaf for path, leaf in flat.items() if path not in paths}
    return unflatten(others), unflatten({path: leaf for path, leaf in flat.items() if path in paths})


def merged(one: Any, other: Any) -> Any:
    """Returns a tree with the leaves of two, such as those that `split` returns."""
    return unflatten(flatten(one) | flatten(other))


def of_leaf(path: Sequence[Any]) -> str:
    """Returns the path of the parameter that a leaf belongs to, in any tree that contains trees of parameters.

    Args:
      path: the leaf's own path, as `jax.tree_util` gives it. The keys of dicts at its end are those of the parameter.
    """
    names: list[str] = []
    for key in reversed(path):
        if not isinstance(key, jax.tree_util.DictKey):
            break
        names.append(str(key.key))
    return "/".join(reversed(names))


def matching(tree: Any, patterns: Sequence[str]) -> set[str]:
    """Returns the paths of a tree that begin with a match of one of the regular expressions.

    Raises:
      ValueError: for a pattern that is not a regular expression or matches nothing.
    """
    matched: set[str] = set()
    every = flatten(tree)
    for pattern in patterns:
        try:
            found = {path for path in every if re.match(pattern, path)}
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        if not found:
            tops = sorted({path.split("/")[0] for path in every})
            raise ValueError(f"the pattern {pattern!r} matches no parameter; paths start with {', '.join(tops)}")
        matched |= found
    return matched
