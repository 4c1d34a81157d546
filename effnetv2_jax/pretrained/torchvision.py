"""The weights that torchvision publishes. It trained V2-S and M itself, and converted the others.

Source of everything: torchvision 0.29.1 models/efficientnet.py, the classes `…_Weights`. The digits at the end of a
file's name are the first of its SHA-256. torchvision itself is under BSD-3-Clause; it states no licence of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from effnetv2_jax.pretrained.published_weights import PublishedWeights

_FOLDER = "https://download.pytorch.org/models"
_CITATION = "torchvision 0.29.1 models/efficientnet.py"
_MEBIBYTE = 1.048576  # torchvision gives sizes in 2^20 bytes

# fmt: off
_ROWS = (
    # name, file, SHA-256, eval px, size before the crop, family, top-1, MiB
    ("efficientnetv2-s.in1k", "efficientnet_v2_s", "dd5fe13b", 384, 384, "legacy", 84.228, 82.704),
    ("efficientnetv2-m.in1k", "efficientnet_v2_m", "dc08266a", 480, 480, "legacy", 85.112, 208.01),
    ("efficientnetv2-l.in1k", "efficientnet_v2_l", "59c71312", 480, 480, "finetune", 85.808, 454.573),
    ("efficientnet-b0.in1k", "efficientnet_b0_rwightman", "7f5810bc", 224, 256, "legacy", 77.692, 20.451),
    ("efficientnet-b1.in1k", "efficientnet_b1_rwightman", "bac287d4", 240, 256, "legacy", 78.642, 30.134),
    ("efficientnet-b1.in1k_v2", "efficientnet_b1", "c27df63c", 240, 255, "legacy", 79.838, 30.136),
    ("efficientnet-b2.in1k", "efficientnet_b2_rwightman", "c35c1473", 288, 288, "legacy", 80.608, 35.174),
    ("efficientnet-b3.in1k", "efficientnet_b3_rwightman", "b3899882", 300, 320, "legacy", 82.008, 47.184),
    ("efficientnet-b4.in1k", "efficientnet_b4_rwightman", "23ab8bcd", 380, 384, "legacy", 83.384, 74.489),
    ("efficientnet-b5.in1k", "efficientnet_b5_lukemelas", "1a07897c", 456, 456, "legacy", 83.444, 116.864),
    ("efficientnet-b6.in1k", "efficientnet_b6_lukemelas", "24a108a5", 528, 528, "legacy", 84.008, 165.362),
    ("efficientnet-b7.in1k", "efficientnet_b7_lukemelas", "c5b4e57e", 600, 600, "legacy", 84.122, 254.675),
)
# fmt: on


def torchvision_weights() -> Iterator[PublishedWeights]:
    """Yields the rows of torchvision."""
    for name, file, sha256, eval_size, resized, family, top1, mebibytes in _ROWS:
        yield PublishedWeights(
            name=name,
            framework="torchvision",
            address=f"{_FOLDER}/{file}-{sha256}.pth",
            eval_size=eval_size,
            preprocessing=family,
            crop=f"{eval_size / resized:.3g}" if resized > eval_size else "1.0",
            top1=top1,
            top1_citation=_CITATION,
            checksum=f"sha256:{sha256}",
            megabytes=round(mebibytes * _MEBIBYTE, 1),
        )
