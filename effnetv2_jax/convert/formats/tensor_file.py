"""A file of named tensors, whatever its format, and the strict way from it to our tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from effnetv2_jax.convert.layouts import LAYOUTS, Shape
from effnetv2_jax.convert.names import SOURCES, TensorRow

_NAMED = 6  # how many tensors an error names of each fault


@dataclasses.dataclass(frozen=True)
class TensorFile:
    """An open file: the shape of each tensor by name, a function that reads one, and what its header says."""

    shapes: Mapping[str, Shape]
    read: Callable[[str], np.ndarray]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sha256: str = ""


def check_names(file: TensorFile, rows: Sequence[TensorRow], convention: str, optional: Sequence[str] = ()) -> None:
    """Raises ValueError unless the file has each row's tensor in its shape and no other.

    `optional` names may be there or not: tensors that are known and not used.
    """
    expected = {row.name(convention): LAYOUTS[convention][row.kind].shape(row.shape) for row in rows}
    shapes = file.shapes
    missing = [name for name in expected if name not in shapes]
    extra = [name for name in shapes if name not in expected and name not in set(optional)]
    wrong = [
        f"{name} is {list(shapes[name])} in place of {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != shape
    ]
    faults = [
        f"{len(names)} {what}: {', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''}"
        for what, names in (("missing", missing), ("unknown", extra), ("misshapen", wrong))
        if names
    ]
    if faults:
        raise ValueError("; ".join(faults) + _hint(file, rows, convention))


def _hint(file: TensorFile, rows: Sequence[TensorRow], convention: str) -> str:
    """Names the convention that the file follows, if it is another one."""
    for other in SOURCES:
        names = [row.names.get(other) for row in rows if not row.path.startswith("params/classifier/")]
        if other != convention and all(name in file.shapes for name in names[:5]):
            return f"; its names are those of {other}"
    return ""


def read_rows(file: TensorFile, rows: Sequence[TensorRow], convention: str) -> dict[str, np.ndarray]:
    """Returns each row's tensor by our path: see `read_row`."""
    return {row.path: read_row(file, row, convention) for row in rows}


def read_row(file: TensorFile, row: TensorRow, convention: str) -> np.ndarray:
    """Returns a row's tensor in our layout, as float32.

    Raises:
      ValueError: if it is not of a floating type of at most 32 bits.
    """
    value = file.read(row.name(convention))
    if value.dtype.name not in ("float32", "float16", "bfloat16"):
        raise ValueError(f"{row.name(convention)} is {value.dtype.name}; weights are float32, float16 or bfloat16")
    return LAYOUTS[convention][row.kind].ours(value)
