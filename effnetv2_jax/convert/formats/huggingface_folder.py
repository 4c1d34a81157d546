"""Hugging Face's layout of a timm model: a folder of `model.safetensors` and `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from effnetv2_jax.convert.architectures import architecture
from effnetv2_jax.data.families import preprocessing_family
from effnetv2_jax.model.provenance import Provenance

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def timm_config(provenance: Provenance) -> dict[str, Any]:
    """Returns the `config.json` from which timm builds the model and its evaluation preprocessing.

    `input_size` is the evaluation size, not timm's training size, so that a user who asks for the model's data
    configuration evaluates as the weights were measured. Source of the keys: timm's PretrainedCfg, save_config_for_hf.

    Raises:
      ValueError: if timm has no model of this architecture, or the preprocessing is unknown.
    """
    spec, size = provenance.spec, provenance.eval_size
    name = architecture("timm", spec).name
    if name is None:
        raise ValueError(f"timm has no model of {spec.name}'s widths")
    family = preprocessing_family(provenance.preprocessing)
    crops = family.crops_in_evaluation(size, provenance.eval_crop)
    pretrained = {
        "input_size": [3, size, size],
        "test_input_size": [3, size, size],
        "fixed_input_size": False,
        "interpolation": family.interpolation,
        # The official central crop is the share size / (size + 32) of the shorter side.
        "crop_pct": size / (size + 32) if crops else 1.0,
        "crop_mode": "center" if crops else "squash",
        "mean": [value / 255 for value in family.mean],
        "std": [value / 255 for value in family.std],
        "num_classes": provenance.num_classes,
        "pool_size": [-(-size // spec.total_stride)] * 2,
        "first_conv": "conv_stem",
        "classifier": "classifier",
        "origin_url": "https://github.com/google/automl/tree/master/efficientnetv2",
        "paper_ids": "arXiv:2104.00298" if "2104.00298" in spec.source else "arXiv:1905.11946",
    }
    config = {
        "architecture": name,
        "num_classes": provenance.num_classes,
        "num_features": spec.head_width,
        "global_pool": "avg",
        "pretrained_cfg": pretrained,
    }
    return config | ({"label_names": list(provenance.class_names)} if provenance.class_names else {})


def write_config(folder: Path, provenance: Provenance) -> None:
    """Writes a folder's `config.json`."""
    text = json.dumps(timm_config(provenance), indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
