"""Which network of each framework a variant is, and what that framework computes it with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from effnetv2_jax.convert.names import Convention
from effnetv2_jax.model.convolution import Padding
from effnetv2_jax.model.specs import VARIANTS, ModelSpec


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A framework's network of one variant.

    `name` is what the framework calls it, None for a structure it has no name for. `padding` and `bn_epsilon` are what
    its code computes with: weights mean the same logits only under the same two. `preprocessing` (a family's name) and
    `eval_size` (pixels) belong to the weights that the framework publishes.
    """

    name: str | None
    padding: Padding
    bn_epsilon: float
    preprocessing: str
    eval_size: int

    @property
    def fields(self) -> dict[str, object]:
        """The arguments of `create_model` that make our network compute what the framework's does."""
        return {"padding": self.padding, "bn_epsilon": self.bn_epsilon}


def architecture(convention: Convention, spec: ModelSpec) -> Architecture:
    """Returns a framework's network of a spec's structure; without a name if it is none of the variants.

    Raises:
      ValueError: if the framework has no networks of this kind.
    """
    if (spec.projects_expand_1, convention == "article") in ((True, False), (False, True)) and convention != "flax":
        raise ValueError(f"{spec.name} is no network of {convention}: it has another structure")
    if VARIANTS.get(spec.name) == spec and (convention, spec.name) in _ARCHITECTURES:
        return _ARCHITECTURES[convention, spec.name]
    padding, bn_epsilon = _COMPUTED_WITH[convention] or (spec.padding, spec.bn_epsilon)
    return Architecture(None, padding, bn_epsilon, spec.preprocessing, spec.eval_size)


# Sources: google/automl hparams.py; timm's `pad_type="same"` and BN_EPS_TF_DEFAULT of the tf_ models; torchvision's
# efficientnet_v2_*; PyTorch's defaults, which the article's code leaves alone.
_COMPUTED_WITH: Mapping[str, tuple[Padding, float] | None] = {
    "official": ("same", 1e-3),
    "timm": ("same", 1e-3),
    "torchvision": ("symmetric", 1e-3),
    "article": ("symmetric", 1e-5),
    "flax": None,
}

# Source: torchvision models/efficientnet.py. Its V1-B0 … B4 keep PyTorch's epsilon of 1e-5. Each row names the family
# of ours that comes closest: torchvision resizes with antialiasing, the shorter side to `resize_size`.
# fmt: off
_TORCHVISION = (
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


def _architectures() -> Iterator[tuple[tuple[str, str], Architecture]]:
    for variant, name, bn_epsilon, preprocessing, eval_size in _TORCHVISION:
        yield ("torchvision", variant), Architecture(name, "symmetric", bn_epsilon, preprocessing, eval_size)
    for variant, spec in VARIANTS.items():
        kept = (spec.preprocessing, spec.eval_size)
        if spec.projects_expand_1:
            yield ("article", variant), Architecture(variant.replace("article-", "effnetv2_"), "symmetric", 1e-5, *kept)
        else:
            yield ("timm", variant), Architecture("tf_" + variant.replace("-", "_"), "same", 1e-3, *kept)
            yield ("official", variant), Architecture(variant, "same", 1e-3, *kept)


_ARCHITECTURES = MappingProxyType(dict(_architectures()))
