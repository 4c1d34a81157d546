"""The folder in which Hugging Face stores a model: `model.safetensors` and `config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Writes a folder's `config.json`."""
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
