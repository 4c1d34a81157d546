"""TPU generations as rows of data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip. Source: the "system architecture" pages of cloud.google.com/tpu/docs.

    Attributes:
      name: of the generation.
      peak_flops: bfloat16 floating-point operations a second.
      hbm_bytes: of memory.
      cores_in_name: whether the number in an accelerator's name counts cores, two a chip, instead of chips.
    """

    name: str
    peak_flops: float
    hbm_bytes: float
    cores_in_name: bool


_ROWS = (
    Chip("v3", 123e12, 32e9, True),
    Chip("v4", 275e12, 32e9, True),
    Chip("v5e", 197e12, 16e9, False),
    Chip("v5p", 459e12, 95e9, True),
    Chip("v6e", 918e12, 32e9, False),
)
CHIPS: Mapping[str, Chip] = MappingProxyType({chip.name: chip for chip in _ROWS})

_ALIASES = MappingProxyType({"v5litepod": "v5e"})


def parse_accelerator(name: str) -> tuple[Chip, int]:
    """Returns the chip and how many of them an accelerator's name means: v3-32, v4-8, v5litepod-16, v5e-8, v6e-1.

    Raises:
      ValueError: for a name of another form or an unknown generation.
    """
    match = re.fullmatch(r"(\w+)-(\d+)", name)
    chip = CHIPS.get(_ALIASES.get(match[1], match[1])) if match else None
    count = int(match[2]) // (2 if chip.cores_in_name else 1) if match and chip else 0
    if chip is None or count < 1:
        raise ValueError(f"unknown accelerator {name!r}; known: {', '.join(CHIPS)} with a number, as in v5e-8 or v4-32")
    return chip, count
