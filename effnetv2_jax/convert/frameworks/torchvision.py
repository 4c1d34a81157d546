"""The framework torchvision.

Source: torchvision models/efficientnet.py. Its V1-B0 … B4 keep PyTorch's BatchNorm epsilon of 1e-5. Each row names the
preprocessing family that comes closest: torchvision resizes the shorter side to `resize_size`, with antialiasing.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from typing import Any

from effnetv2_jax.convert.frameworks import pytorch
from effnetv2_jax.convert.frameworks.architecture import Architecture, NoNetwork
from effnetv2_jax.convert.frameworks.framework import IMAGENET, Framework, ModuleNames
from effnetv2_jax.model.specs import ModelSpec

# fmt: off
_ARCHITECTURES = (
    # variant, name, epsilon, preprocessing, eval px
    ("efficientnetv2-s", "efficientnet_v2_s", 1e-3, "legacy", 384),
    ("efficientnetv2-m", "efficientnet_v2_m", 1e-3, "legacy", 480),
    ("efficientnetv2-l", "efficientnet_v2_l", 1e-3, "finetune", 480),
    ("efficientnet-b0", "efficientnet_b0", 1e-5, "legacy", 224),
    ("efficientnet-b1", "efficientnet_b1", 1e-5, "legacy", 240),
    ("efficientnet-b2", "efficientnet_b2", 1e-5, "legacy", 288),
    ("efficientnet-b3", "efficientnet_b3", 1e-5, "legacy", 300),
    ("efficientnet-b4", "efficientnet_b4", 1e-5, "legacy", 380),
    ("efficientnet-b5", "efficientnet_b5", 1e-3, "legacy", 456),
    ("efficientnet-b6", "efficientnet_b6", 1e-3, "legacy", 528),
    ("efficientnet-b7", "efficientnet_b7", 1e-3, "legacy", 600),
)
# fmt: on


def _build(torchvision: Any, spec: ModelSpec, architecture: Architecture, num_classes: int) -> Any:
    nn = importlib.import_module("torch").nn
    if architecture.name is not None:
        network = torchvision.models.get_model(architecture.name, weights=None, num_classes=num_classes or 1)
    else:
        network = torchvision.models.EfficientNet(
            _rows(torchvision.models.efficientnet, spec),
            dropout=0.0,
            num_classes=num_classes or 1,
            norm_layer=functools.partial(nn.BatchNorm2d, eps=architecture.bn_epsilon),
            last_channel=spec.head_width,
        )
    if not num_classes:
        network.classifier = nn.Identity()
    return network


def _rows(efficientnet: Any, spec: ModelSpec) -> list[Any]:
    """Returns the rows of a network that torchvision has no name for."""
    rows = []
    for _, group in itertools.groupby(spec.blocks(), lambda block: block.row):
        blocks = list(group)
        if any(block.se_features not in (0, block.input_features // 4) for block in blocks):
            raise NoNetwork("torchvision cannot build it: its blocks squeeze their input features to a quarter")
        first = blocks[0]
        config = efficientnet.FusedMBConvConfig if first.kind == "fused" else efficientnet.MBConvConfig
        sizes = first.expand_ratio, first.kernel_size, first.stride, first.input_features, first.features
        rows.append(config(*sizes, len(blocks)))
    return rows


TORCHVISION = Framework(
    name="torchvision",
    names=ModuleNames(
        stem=("features.0.0", "features.0.1"),
        head=("features.{next_row}.0", "features.{next_row}.1"),
        classifier="classifier.1",
        block="features.{next_row}.{repeat}.block.",
        blocks=(
            {"fused": ("0.0", "0.1")},
            {"fused": ("0.0", "0.1"), "project": ("1.0", "1.1")},
            {"depthwise": ("0.0", "0.1"), "se": ("1.fc1", "1.fc2"), "project": ("2.0", "2.1")},
            {
                "expand": ("0.0", "0.1"),
                "depthwise": ("1.0", "1.1"),
                "se": ("2.fc1", "2.fc2"),
                "project": ("3.0", "3.1"),
            },
        ),
        leaves=pytorch.LEAVES,
    ),
    layouts=pytorch.LAYOUTS,
    formats=pytorch.FORMATS,
    architectures={
        variant: Architecture(name, "symmetric", bn_epsilon, preprocessing, eval_size)
        for variant, name, bn_epsilon, preprocessing, eval_size in _ARCHITECTURES
    },
    padding="symmetric",
    bn_epsilon=1e-3,
    is_pytorch=True,
    package="torchvision",
    run=functools.partial(pytorch.run_network, "torchvision", _build),
    label_sets=IMAGENET,
)
