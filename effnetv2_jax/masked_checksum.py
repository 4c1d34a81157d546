"""The checksum of TensorFlow's files."""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np

_MASK = 0xA282EAD8


def masked_crc32c(data: bytes | np.ndarray[Any, Any]) -> int:
    """Returns the CRC-32C of bytes in the masked form that TensorFlow stores.

    Source: tensorflow/core/lib/hash/crc32c.h.
    """
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF
