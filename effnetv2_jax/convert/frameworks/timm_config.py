"""The `config.json` from which timm builds a network and its evaluation preprocessing."""

from __future__ import annotations

from typing import Any

from effnetv2_jax.data.families import preprocessing_family
from effnetv2_jax.model.provenance import Provenance


def timm_config(provenance: Provenance, name: str) -> dict[str, Any]:
    """Returns the configuration of the weights of timm's network `name`.

    `input_size` is the evaluation size and not the training size that timm stores there, so that a user who asks for
    the model's data configuration evaluates the weights as they were measured.
    Source of the keys: timm's PretrainedCfg and save_config_for_hf.

    Raises:
      ValueError: if the preprocessing family is unknown.
    """
    spec, size = provenance.spec, provenance.eval_size
    family = preprocessing_family(provenance.preprocessing)
    crops = family.crops_in_evaluation(size, provenance.eval_crop)
    pretrained = {
        "input_size": [3, size, size],
        "test_input_size": [3, size, size],
        "fixed_input_size": False,
        "interpolation": family.interpolation,
        "crop_pct": family.central_share(size) if crops else 1.0,
        "crop_mode": "center" if crops else "squash",
        "mean": [value / 255 for value in family.mean],
        "std": [value / 255 for value in family.std],
        "num_classes": provenance.num_classes,
        "pool_size": [-(-size // spec.total_stride)] * 2,
        "first_conv": "conv_stem",
        "classifier": "classifier",
        "origin_url": "https://github.com/google/automl/tree/master/efficientnetv2",
        "paper_ids": "arXiv:2104.00298" if "2104.00298" in spec.citation else "arXiv:1905.11946",
    }
    config = {
        "architecture": name,
        "num_classes": provenance.num_classes,
        "num_features": spec.head_width,
        "global_pool": "avg",
        "pretrained_cfg": pretrained,
    }
    return config | ({"label_names": list(provenance.class_names)} if provenance.class_names else {})
