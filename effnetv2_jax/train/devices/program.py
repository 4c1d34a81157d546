"""A program: a function to compile, with the shapes and the shardings of its arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Program:
    """A function to compile for certain arguments.

    Attributes:
      function: the function to compile.
      arguments: trees of `jax.ShapeDtypeStruct` with shardings.
      options: arguments of `jax.jit`.
      compiler_options: XLA's options for this program: name → value as text.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    compiler_options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def lower(self) -> jax.stages.Lowered:
        """Traces and lowers the function."""
        return jax.jit(self.function, **self.options).lower(*self.arguments)
