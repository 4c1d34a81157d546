"""What each shard of a data set holds, found once and stored next to the files."""

from __future__ import annotations

import dataclasses
import functools
import posixpath
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from effnetv2_jax.data.sources.record_index import read_index, require_all, store_index, user_index_path
from effnetv2_jax.data.sources.storage import file_length

INDEX_NAME = "effnetv2_shards.json"

_CONNECTIONS = 16


@dataclasses.dataclass(frozen=True)
class ShardContent:
    """What a shard holds.

    Attributes:
      examples: number of examples.
      largest_label: the largest label; -1 if there are none.
      class_names: the names of the classes, if the file records them.
      marks: positions in the file from which reading can start, in bytes: every so many examples, from the first.
    """

    examples: int
    largest_label: int
    class_names: tuple[str, ...] = ()
    marks: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard: its path, its length in bytes and what it holds."""

    path: str
    length: int
    content: ShardContent


@functools.lru_cache(maxsize=16)
def indexed_shards(data_dir: str, paths: tuple[str, ...], look: Callable[[str], ShardContent]) -> tuple[Shard, ...]:
    """Returns the shards at some paths.

    The first call looks into each file. It stores what it finds next to the files, or in the user's cache folder if
    `data_dir` cannot be written to. A file is recognised by its name and length.

    Raises:
      FileNotFoundError: if some of a numbered set are missing.
      ValueError: if a file or the index is damaged.
    """
    require_all([posixpath.splitext(path)[0] for path in paths])
    stored = [user_index_path(data_dir, INDEX_NAME)]
    if not data_dir.startswith("hf://"):
        stored.insert(0, posixpath.join(data_dir, INDEX_NAME))
    known: dict[str, ShardContent] = {}
    for index_path in stored:
        known |= {key: _content(value, index_path) for key, value in read_index(index_path).items()}
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        lengths = list(pool.map(file_length, paths))
        keys = [f"{path.removeprefix(data_dir)} {length}" for path, length in zip(paths, lengths, strict=True)]
        missing = {key: path for key, path in zip(keys, paths, strict=True) if key not in known}
        known |= dict(zip(missing, pool.map(look, missing.values()), strict=True))
    if missing:
        store_index({key: dataclasses.asdict(content) for key, content in known.items()}, stored)
    return tuple(Shard(path, length, known[key]) for path, length, key in zip(paths, lengths, keys, strict=True))


def _content(value: Any, index_path: str) -> ShardContent:
    try:
        content = ShardContent(**value)
        numbers = [content.examples, content.largest_label, *content.marks]
        if not all(type(number) is int and number >= -1 for number in numbers):
            raise ValueError(f"its numbers must be whole, got {numbers[:3]}")
        if not all(isinstance(name, str) for name in content.class_names):
            raise ValueError("names of classes must be text")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{index_path} is damaged: {error}; delete it, and the files are looked at again") from None
    return ShardContent(content.examples, content.largest_label, tuple(content.class_names), tuple(content.marks))
