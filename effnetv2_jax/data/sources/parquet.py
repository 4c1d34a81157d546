"""Parquet files of images and labels, as Hugging Face has them (`imagenet-1k`: `image.bytes` and `label`)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from effnetv2_jax.data.sources.shard_index import ShardContent
from effnetv2_jax.data.sources.storage import open_file

_ROWS = 16  # rows that are read at once; a row group may be larger than the memory
_LABELS = ("label", "labels", "fine_label", "cls")


def look(path: str) -> ShardContent:
    """Returns what a file holds, from its metadata and its column of labels.

    Raises:
      ValueError: if it is damaged, or has no column of images or labels.
    """
    try:
        with open_file(path) as opened:
            file = pq.ParquetFile(opened)
            _, label = _columns(file.schema_arrow, path)
            labels = pc.max(file.read(columns=[label]).column(0)).as_py()
            return ShardContent(
                file.metadata.num_rows, -1 if labels is None else int(labels), _class_names(file.schema_arrow, label)
            )
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def read(path: str, first: int, count: int, marks: tuple[int, ...] = ()) -> Iterator[tuple[str, bytes, int]]:
    """Yields ("", encoded image, label) of consecutive rows. Row groups before the first row are not read.

    Raises:
      ValueError: if the file is damaged.
    """
    del marks  # the file's own metadata tell where its row groups begin
    try:
        with open_file(path) as opened:
            file = pq.ParquetFile(opened)
            image, label = _columns(file.schema_arrow, path)
            groups, skip = _groups_from(file, first)
            rows = (
                row
                for batch in file.iter_batches(_ROWS, row_groups=groups, columns=[image, label])
                for row in batch.to_pylist()
            )
            for row in itertools.islice(rows, skip, skip + count):
                data = row[image]["bytes"] if isinstance(row[image], dict) else row[image]
                yield "", data or b"", row[label]
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _groups_from(file: pq.ParquetFile, first: int) -> tuple[list[int], int]:
    """Returns the row groups from that of row `first` on, and the number of rows to skip in the first of them."""
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if first < rows:
            return list(range(group, file.num_row_groups)), first
        first -= rows
    return [], 0


def _columns(schema: pa.Schema, path: str) -> tuple[str, str]:
    """Returns the names of the columns of images and labels."""
    images = [field.name for field in schema if _holds_images(field)]
    labels = [name for name in _LABELS if name in schema.names and pa.types.is_integer(schema.field(name).type)]
    if not images or not labels:
        raise ValueError(
            f"{path} has the columns {', '.join(schema.names)}; it needs one of images (bytes, or a structure with "
            f"bytes) and one of whole numbers named {' or '.join(_LABELS)}"
        )
    return images[0], labels[0]


def _holds_images(field: pa.Field) -> bool:
    kind: Any = field.type
    if pa.types.is_struct(kind):
        return any(part.name == "bytes" and pa.types.is_binary(part.type) for part in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """Returns the names of the classes that Hugging Face's `datasets` records in a file; () if it does not."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(map(str, names))


def _damaged(path: str, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged or not a Parquet file: {(str(error).splitlines() or [''])[0]}")
