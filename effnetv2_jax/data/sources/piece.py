"""Consecutive records of a file, and how a range of records over several files is made of them."""

from typing import NamedTuple


class Piece(NamedTuple):
    """Records `skip … skip + take - 1` of one file."""

    path: str
    skip: int
    take: int


def cut(pieces: list[Piece], first: int, end: int) -> list[Piece]:
    """Returns the pieces with the records `first … end - 1`, counted over all pieces."""
    kept, position = [], 0
    for path, skip, take in pieces:
        start, stop = max(first - position, 0), min(end - position, take)
        if start < stop:
            kept.append(Piece(path, skip + start, stop - start))
        position += take
    return kept
