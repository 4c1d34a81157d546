"""The `config.json` from which timm builds a network and its evaluation preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from effnetv2_jax.convert.frameworks.architecture import Architecture
from effnetv2_jax.convert.frameworks.folder_description import FolderDescription
from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.model.provenance import Provenance

_LEAST_SIZE, _MOST_SIZE = 32, 8192

BN_EPSILON = 1e-3
"""The epsilon of timm's `tf_` networks. Source: BN_EPS_TF_DEFAULT of timm models/_efficientnet_builder.py."""


def arithmetic_arguments(provenance: Provenance) -> dict[str, float | str]:
    """Returns the arguments of timm's `tf_` functions for the padding and the BatchNorm epsilon of weights.

    Without arguments, these functions build networks with the padding `same` and an epsilon of 1e-3.
    Source: timm models/efficientnet.py; an empty `pad_type` is PyTorch's symmetric padding.
    """
    padding = {"pad_type": ""} if provenance.padding == "symmetric" else {}
    return padding | ({"bn_eps": provenance.bn_epsilon} if provenance.bn_epsilon != BN_EPSILON else {})


def timm_config(provenance: Provenance, architecture: Architecture) -> dict[str, Any]:
    """Returns the configuration of weights for a network of timm.

    `timm.create_model` gives the arguments under `model_args` to the function that `architecture` names.

    Deviation: `input_size` is the evaluation size, where timm stores the training size. So timm's data configuration
    evaluates the weights as they were measured.

    Source of the keys: timm's PretrainedCfg, save_config_for_hf and load_model_config_from_path.

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
        "architecture": architecture.name,
        "num_classes": provenance.num_classes,
        "num_features": spec.head_width,
        "global_pool": "avg",
        "pretrained_cfg": pretrained,
    }
    if architecture.arguments:
        config["model_args"] = dict(architecture.arguments)
    return config | ({"label_names": list(provenance.class_names)} if provenance.class_names else {})


def described_weights(config: Mapping[str, Any], variants: Mapping[str, str]) -> FolderDescription | None:
    """Returns what a folder's `config.json` says of weights.

    timm resizes with antialiasing, which no family does, and it crops the shorter side to other shares.

    Args:
      config: the content of the file, which may come from anyone.
      variants: variant by timm's name of its network.

    Returns:
      None if the network is none of timm's `tf_` networks, or is built with arguments of its own.

    Raises:
      ValueError: if a value has another type than timm writes.
    """
    variant = variants.get(str(config.get("architecture", "")))
    if variant is None or config.get("model_args"):
        return None
    evaluation = config.get("pretrained_cfg", config)  # older files have everything at the top
    try:
        size = int((evaluation.get("test_input_size") or evaluation["input_size"])[-1])
        mean = [float(value) for value in evaluation.get("mean", ())]
        share = float(evaluation.get("test_crop_pct") or evaluation.get("crop_pct") or 1.0)
        names = tuple(str(name) for name in config.get("label_names") or ())
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"config.json describes no network of timm: {type(error).__name__}: {error}") from error
    if not _LEAST_SIZE <= size <= _MOST_SIZE:
        raise ValueError(f"config.json names images of {size} px")
    whole = evaluation.get("crop_mode") == "squash" or share >= 1.0
    family = ("finetune" if whole else "advprop") if mean == [0.5, 0.5, 0.5] else "legacy"
    return FolderDescription(variant, family, size, "whole" if whole else "centre", names)
