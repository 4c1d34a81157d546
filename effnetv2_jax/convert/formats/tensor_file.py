"""A file of named tensors, whatever its format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

MAX_WEIGHT_BYTES = 16 << 30
"""Larger files are refused, and archives that unpack to more. XL with its averages and the slots of the optimiser takes
3.4 GB."""


@dataclasses.dataclass(frozen=True)
class TensorFile:
    """An open file.

    Attributes:
      shapes: the shape of each tensor by name.
      read: reads a tensor by name.
      metadata: the strings that the file records about its weights.
      sha256: hexadecimal digest of the file; empty if none was computed.
      folder_config: the content of `config.json` beside the file in a Hugging Face folder; empty if there is none.
    """

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sha256: str = ""
    folder_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
