"""Computes CRC-32C, the checksum of TensorFlow's files, with NumPy.

The data is divided into lanes of equal length. The remainders of all lanes are computed together and then combined.
"""

from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Castagnoli's polynomial, bits reversed. Source: RFC 3720, appendix B.4
_MASK = 0xA282EAD8  # Source: tensorflow/core/lib/hash/crc32c.h
_ALL = 0xFFFFFFFF
_SHORT = 1 << 14  # a plain loop is faster for fewer bytes


def crc32c(data: bytes | np.ndarray) -> int:
    """Returns the CRC-32C of bytes."""
    message = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data.reshape(-1).view(np.uint8)
    if message.size < _SHORT:
        return _one_by_one(message)
    lanes = 1 << max((message.size.bit_length() - 8) // 2 * 2, 0)
    length = -(-message.size // lanes)
    grid = np.zeros(lanes * length, np.uint8)  # leading zeros do not change a remainder that starts at 0
    grid[grid.size - message.size :] = message
    grid[grid.size - message.size :][:4] ^= 0xFF  # equals starting with a remainder of all ones
    columns = np.ascontiguousarray(grid.reshape(lanes, length).T)
    table, state = _table(), np.zeros(lanes, np.uint32)
    for column in columns:
        state = table[(state ^ column) & 0xFF] ^ (state >> 8)
    while state.size > 1:
        state = _shifted(state[::2], length) ^ state[1::2]
        length *= 2
    return int(state[0]) ^ _ALL


def masked_crc32c(data: bytes | np.ndarray) -> int:
    """Returns the CRC-32C of bytes in the masked form that TensorFlow stores."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & _ALL


def _one_by_one(message: np.ndarray) -> int:
    table, crc = _table().tolist(), _ALL
    for byte in message.tobytes():
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ _ALL


@functools.cache
def _table() -> np.ndarray:
    """Returns the remainder of each byte, uint32 `[256]`."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


def _shifted(state: np.ndarray, length: int) -> np.ndarray:
    """Returns the remainders after `length` more zero bytes. They are a linear map of the bits of `state`."""
    result = np.zeros_like(state)
    for bit, image in enumerate(_images(length)):
        result ^= np.where((state >> np.uint32(bit)) & 1, np.uint32(image), np.uint32(0))
    return result


@functools.lru_cache(maxsize=256)
def _images(length: int) -> tuple[int, ...]:
    """Returns the remainder of each of the 32 bits after `length` zero bytes."""
    if length == 1:
        return tuple(int(_table()[(1 << bit) & 0xFF]) ^ ((1 << bit) >> 8) for bit in range(32))
    half = np.array(_images(length // 2), np.uint32)
    twice = _shifted(half, length // 2)
    return tuple(int(image) for image in (_shifted(twice, 1) if length % 2 else twice))
