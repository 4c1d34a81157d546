"""The folder in which Hugging Face stores a model: `model.safetensors` and `config.json`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from effnetv2_jax.convert.formats.safetensors_file import open_safetensors
from effnetv2_jax.convert.formats.tensor_file import TensorFile
from effnetv2_jax.regular_file import checked_size
from effnetv2_jax.untrusted_json import MAX_JSON_BYTES, parse_json

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def folder_files(folder: epath.Path) -> Sequence[epath.Path]:
    """Returns the files of a folder that reading it needs; `gs://` paths work too."""
    return [folder / name for name in (WEIGHTS, CONFIG) if (folder / name).exists()]


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[TensorFile]:
    """Opens the weights in a folder, with its `config.json` if there is one.

    Raises:
      ValueError: as `open_safetensors`, and for a damaged `config.json`.
      OSError: if a file cannot be read.
    """
    with open_safetensors(folder / WEIGHTS) as file:
        yield dataclasses.replace(file, folder_config=_read_config(folder / CONFIG))


def _read_config(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        checked_size(path, MAX_JSON_BYTES)
        config = parse_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it must contain one object")
    return config


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Writes a folder's `config.json`."""
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
