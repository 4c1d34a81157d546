"""Files of specs: an architecture as JSON, which stands wherever the name of a variant does."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from etils import epath

from effnetv2_jax.byte_size import byte_size
from effnetv2_jax.model.spec_fields import spec_from_fields
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.paths import absolute, in_bucket
from effnetv2_jax.regular_file import checked_size
from effnetv2_jax.untrusted_json import parse_json
from effnetv2_jax.whole_file import write_whole

SUFFIX = ".json"
"""The end of the names of these files."""

_MAX_BYTES = 1 << 20  # XL takes 1.3 kB
_MAX_NAME = 100


def write_spec(path: epath.PathLike, spec: ModelSpec) -> None:
    """Writes a spec as a file that `read_spec` reads, with a line for each row of blocks.

    Raises:
      ValueError: if the name of the file does not end with `.json`, or the spec is one that `read_spec` refuses.
      OSError: if the file cannot be written; it is then as it was before.
    """
    target = absolute(path)
    if target.suffix != SUFFIX:
        raise ValueError(f"a file of a spec must end with {SUFFIX}, got {path}")
    fields = _fields(spec)
    parse_spec(json.dumps(fields))
    lines = [f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    rows = ",\n".join(f"  {json.dumps(row)}" for row in fields["rows"])
    lines[list(fields).index("rows")] = f' "rows": [\n{rows}\n ]'
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_spec(path: epath.PathLike) -> ModelSpec:
    """Reads a spec from a file, which may lie in `gs://`.

    Raises:
      ValueError: if the file is not a spec; the message names the field, its value and what is allowed.
      OSError: if it cannot be read.
    """
    file = absolute(path)
    if not in_bucket(file):
        checked_size(Path(file), _MAX_BYTES)
    elif (size := file.stat().length) > _MAX_BYTES:
        raise ValueError(f"{path} has {byte_size(size)}, and the limit is {byte_size(_MAX_BYTES)}")
    try:
        return parse_spec(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not a spec: {error}") from None


def parse_spec(text: str | bytes) -> ModelSpec:
    """Returns the spec that the content of a file describes.

    Raises:
      ValueError: if it describes none.
    """
    spec = spec_from_fields(parse_json(text))
    if not (spec.name and spec.name.isprintable() and len(spec.name) <= _MAX_NAME):
        raise ValueError(f"name must have from 1 to {_MAX_NAME} printable characters, got {spec.name[:_MAX_NAME]!r}")
    for name in ("train_size", "eval_size"):
        if (size := getattr(spec, name)) < spec.minimum_image_size:
            raise ValueError(
                f"{name} must be at least {spec.minimum_image_size}, so that the last row has pixels, got {size}"
            )
    return spec


def spec_text(spec: ModelSpec) -> str:
    """Returns a spec as one line of JSON, from which `parse_spec` makes it again."""
    return json.dumps(_fields(spec))


def _fields(spec: ModelSpec) -> dict[str, Any]:
    """Returns the fields of a spec, and of its rows, without those that have their default."""
    return {name: value for name, value in _changed(spec).items() if name != "rows"} | {
        "rows": [_changed(row) for row in spec.rows]
    }


def _changed(owner: Any) -> dict[str, Any]:
    values = {field.name: (getattr(owner, field.name), field.default) for field in dataclasses.fields(owner)}
    return {name: value for name, (value, default) in values.items() if value != default}


def plain_name(name: str) -> str:
    """Returns the name of a network as a file can have it: letters, digits, `_`, `.` and `-`."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_")
