"""Trees of arrays as flat dicts by path, and patterns that select paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flax import traverse_util


def flatten(tree: Any) -> dict[str, Any]:
    """Returns path → leaf, as in `block_0/fused_conv/kernel`."""
    return traverse_util.flatten_dict(tree, sep="/")


def unflatten(flat: dict[str, Any]) -> Any:
    """Returns the tree that `flatten` was given."""
    return traverse_util.unflatten_dict(flat, sep="/")


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
