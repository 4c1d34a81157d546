"""A spec as plain fields that may come from anyone, and the checks of each."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

from effnetv2_jax.config_fields import has_type, type_name
from effnetv2_jax.model.specs import ModelSpec, RowSpec
from effnetv2_jax.similar_names import did_you_mean

MAX_SIDE = 8192
"""The largest side of an image in pixels."""

# A file may come from anyone, so it cannot make this project build networks larger than these.
_MAX_BLOCKS = 1000
_MAX_FEATURES = 1 << 16  # the widest layer of XL has 3,840
_MAX_FACTOR = 1000.0
# Lowest and highest value of the numbers of a spec and its rows, by their names.
_RANGES = {
    "expand_ratio": (1, 1024), "kernel_size": (1, 64), "stride": (1, 16), "features": (1, _MAX_FEATURES),
    "repeats": (1, _MAX_BLOCKS), "se_ratio": (0, 1), "stem_features": (1, _MAX_FEATURES),
    "head_features": (1, _MAX_FEATURES), "train_size": (0, MAX_SIDE), "eval_size": (0, MAX_SIDE),
    "width": (1 / _MAX_FACTOR, _MAX_FACTOR), "depth": (1 / _MAX_FACTOR, _MAX_FACTOR), "dropout_rate": (0, 1),
    "drop_path_rate": (0, 1), "bn_momentum": (0, 1), "bn_epsilon": (1e-12, 1), "top1": (0, 100), "top1_21k": (0, 100),
}  # fmt: skip


def spec_from_fields(fields: Any) -> ModelSpec:
    """Returns the spec with these fields, as JSON gives them. Fields with a default may be missing.

    Raises:
      ValueError: for a field that is unknown or missing, a value of the wrong type or out of range, or a network that
        is too large; the message names the field, its value and what is allowed.
    """
    if not (isinstance(fields, dict) and isinstance(fields.get("rows"), list) and fields["rows"]):
        raise ValueError("a spec must be one object with a list of rows")
    rows = tuple(_typed(RowSpec, row, f"row {number}: ") for number, row in enumerate(fields["rows"]))
    spec: ModelSpec = _typed(ModelSpec, fields | {"rows": rows}, "")
    if sum(math.ceil(spec.depth * row.repeats) for row in rows) > _MAX_BLOCKS:
        raise ValueError(f"{_short(spec.name)} has more than {_MAX_BLOCKS:,} blocks")
    layers = [spec.stem, *(layer for block in spec.blocks() for layer in block.layers()), spec.head]
    if max(layer.features for layer in layers) > _MAX_FEATURES:
        raise ValueError(f"{_short(spec.name)} has a layer with more than {_MAX_FEATURES:,} features")
    return spec


def check_range(name: str, value: Any) -> None:
    """Checks a number of a spec.

    Raises:
      ValueError: if it is out of range.
    """
    if name in _RANGES and value is not None and not _RANGES[name][0] <= value <= _RANGES[name][1]:
        lowest, highest = _RANGES[name]
        raise ValueError(f"{name} must be from {lowest:g} to {highest:g}, got {_short(value)}")


def _typed(kind: Any, fields: Any, place: str) -> Any:
    """Returns a dataclass with these fields, after a look at the name, the type and the range of each."""
    if not isinstance(fields, dict):
        raise ValueError(f"{place}it must be an object, got {_short(fields)}")
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name in fields:
        if name not in known:
            raise ValueError(
                f"{place}unknown field {_short(name)}{did_you_mean(name[:100], known)} (known fields: "
                f"{', '.join(known)})"
            )
    missing = [name for name, field in known.items() if field.default is dataclasses.MISSING and name not in fields]
    if missing:
        raise ValueError(f"{place}it has no {', '.join(missing)}")
    annotations = typing.get_type_hints(kind)
    for name, value in fields.items():
        if name != "rows" and not has_type(value, annotations[name]):
            raise ValueError(f"{place}{name} must be {type_name(annotations[name])}, got {_short(value)}")
        try:
            check_range(name, value)
        except ValueError as error:
            raise ValueError(f"{place}{error}") from None
    return kind(**fields)


def _short(value: Any) -> str:
    """Returns a value for a message, which a file can make as long as it likes."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a very large number"
    return text if len(text) <= 60 else f"{text[:60]}…"
