"""A program: a function to compile, with the shapes and the shardings of its arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Program:
    """A function to compile for certain arguments.

    Attributes:
      function: the function to compile.
      arguments: trees of `jax.ShapeDtypeStruct` with shardings.
      options: arguments of `jax.jit`.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def lower(self) -> jax.stages.Lowered:
        """Traces and lowers the function."""
        return jax.jit(self.function, **self.options).lower(*self.arguments)
