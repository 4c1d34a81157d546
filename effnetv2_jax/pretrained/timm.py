"""The weights that timm publishes on the Hugging Face Hub, for its `tf_` networks.

Source of addresses, sizes, crops and licence: timm 1.0.31 models/efficientnet.py, `default_cfgs`. Source of the
accuracies: pytorch-image-models results/results-imagenet.csv @0173a13. Source of the sizes in bytes: the file lists of
the repositories.
"""

from __future__ import annotations

from collections.abc import Iterator

from effnetv2_jax.pretrained.published_weights import APACHE_2, IMAGENET_1K, IMAGENET_21K, PublishedWeights

_RESULTS = "pytorch-image-models results/results-imagenet.csv @0173a13"

# fmt: off
_V2 = (
    # variant, training, eval px, crop, family, top-1, MB
    ("b0", "in1k", 224, "0.875", "legacy", 78.358, None),
    ("b1", "in1k", 240, "0.882", "legacy", 79.462, None),
    ("b2", "in1k", 260, "0.89", "legacy", 80.194, None),
    ("b3", "in1k", 300, "0.904", "legacy", 81.970, None),
    ("b3", "in21k", 300, "0.904", "v2", None, None),
    ("b3", "in21k_ft_in1k", 300, "0.9, squashed", "finetune", 82.670, None),
    ("s", "in1k", 384, "1.0", "v2", 83.900, 86.5),
    ("s", "in21k", 384, "1.0", "v2", None, 193.0),
    ("s", "in21k_ft_in1k", 384, "1.0", "finetune", 84.288, 86.5),
    ("m", "in1k", 480, "squashed", "v2", 85.204, None),
    ("m", "in21k", 480, "squashed", "v2", None, None),
    ("m", "in21k_ft_in1k", 480, "squashed", "finetune", 86.000, None),
    ("l", "in1k", 480, "squashed", "v2", 85.664, None),
    ("l", "in21k", 480, "squashed", "v2", None, None),
    ("l", "in21k_ft_in1k", 480, "squashed", "finetune", 86.802, None),
    ("xl", "in21k", 512, "squashed", "v2", None, None),
    ("xl", "in21k_ft_in1k", 512, "squashed", "finetune", 86.748, None),
)
_V1 = (
    # variant, eval px, crop, top-1 by training
    ("b0", 224, "0.875", {"in1k": 76.532, "aa_in1k": 76.834, "ap_in1k": 77.090, "ns_jft_in1k": 78.670}),
    ("b1", 240, "0.882", {"in1k": 78.560, "aa_in1k": 78.830, "ap_in1k": 79.280, "ns_jft_in1k": 81.394}),
    ("b2", 260, "0.89", {"in1k": 79.604, "aa_in1k": 80.084, "ap_in1k": 80.308, "ns_jft_in1k": 82.378}),
    ("b3", 300, "0.904", {"in1k": 80.878, "aa_in1k": 81.644, "ap_in1k": 81.826, "ns_jft_in1k": 84.056}),
    ("b4", 380, "0.922", {"in1k": 82.608, "aa_in1k": 83.018, "ap_in1k": 83.250, "ns_jft_in1k": 85.162}),
    ("b5", 456, "0.934",
     {"in1k": 83.176, "aa_in1k": 83.688, "ra_in1k": 83.810, "ap_in1k": 84.258, "ns_jft_in1k": 86.088}),
    ("b6", 528, "0.942", {"aa_in1k": 84.116, "ap_in1k": 84.786, "ns_jft_in1k": 86.456}),
    ("b7", 600, "0.949", {"aa_in1k": 84.414, "ra_in1k": 84.932, "ap_in1k": 85.122, "ns_jft_in1k": 86.840}),
)
# fmt: on


def timm_weights() -> Iterator[PublishedWeights]:
    """Yields the rows of timm."""
    for variant, training, eval_size, crop, family, top1, megabytes in _V2:
        yield _row("efficientnetv2", variant, training, eval_size, family, crop, top1, megabytes)
    for variant, eval_size, crop, accuracies in _V1:
        for training, accuracy in accuracies.items():
            family = "advprop" if training == "ap_in1k" else "legacy"
            yield _row("efficientnet", variant, training, eval_size, family, crop, accuracy)


def _row(
    network: str,
    variant: str,
    training: str,
    eval_size: int,
    family: str,
    crop: str,
    top1: float | None,
    megabytes: float | None = None,
) -> PublishedWeights:
    return PublishedWeights(
        name=f"{network}-{variant}.{training}",
        framework="timm",
        address=f"hf://timm/tf_{network}_{variant}.{training}",
        eval_size=eval_size,
        preprocessing=family,
        crop=crop,
        num_classes=IMAGENET_21K if training == "in21k" else IMAGENET_1K,
        top1=top1,
        top1_citation=_RESULTS if top1 is not None else "",
        licence=APACHE_2,
        megabytes=megabytes,
    )
