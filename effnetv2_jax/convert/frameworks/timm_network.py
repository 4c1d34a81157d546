"""timm's functions that build the network of a spec, and the network itself where timm has no such function."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
from collections.abc import Iterator
from typing import Any

from effnetv2_jax.convert.frameworks.architecture import Architecture, NetworkName
from effnetv2_jax.model.specs import BlockSpec, LayerSpec, ModelSpec, Rounding
from effnetv2_jax.model.variants import VARIANTS


@dataclasses.dataclass(frozen=True)
class _Scalable:
    """A variant whose function in timm takes factors for the widths and the depths.

    Attributes:
      variant: the variant.
      rounding: how the function rounds scaled widths.
      scales_head: whether the factor for the widths also applies to the head.
    """

    variant: str
    rounding: Rounding
    scales_head: bool


# The functions of B1–B3 and of V1 call the same code with factors of their own, and refuse others.
# Source: timm 1.0.31 models/efficientnet.py, the functions `_gen_efficientnetv2_…` and those that call them.
_SCALABLE = (
    _Scalable("efficientnetv2-b0", "nearest", scales_head=True),
    _Scalable("efficientnetv2-s", "divisible", scales_head=True),
    _Scalable("efficientnetv2-m", "divisible", scales_head=False),
    _Scalable("efficientnetv2-l", "divisible", scales_head=False),
    _Scalable("efficientnetv2-xl", "divisible", scales_head=False),
)


def timm_name(variant: str) -> str:
    """Returns the name of timm's function for a variant."""
    return "tf_" + variant.replace("-", "_")


def find_network(spec: ModelSpec) -> NetworkName:
    """Returns the function and the arguments with which timm builds exactly the network of a spec.

    Every layer of the network is compared: timm rounds some scaled widths in another way than this project.
    """
    layers = list(_layers(spec, spec.head_width))
    for variant, published in VARIANTS.items():
        if not published.projects_expand_1 and layers == list(_layers(published, published.head_width)):
            return NetworkName(timm_name(variant))
    for scalable in _SCALABLE:
        published = VARIANTS[scalable.variant]
        if (published.rows, published.stem_features) == (spec.rows, spec.stem_features):
            return _scaled(spec, scalable, published)
    return NetworkName(None, reason="its only functions that take factors are those of V2-B0, S, M, L and XL")


def _scaled(spec: ModelSpec, scalable: _Scalable, published: ModelSpec) -> NetworkName:
    factors = {"channel_multiplier": spec.width, "depth_multiplier": spec.depth}
    arguments = {name: factor for name, factor in factors.items() if factor != 1.0}
    built = dataclasses.replace(published, width=spec.width, depth=spec.depth, rounding=scalable.rounding)
    head_width = built.head_width if scalable.scales_head else published.head_features
    for (place, ours), (_, theirs) in zip(_layers(spec, spec.head_width), _layers(built, head_width), strict=True):
        if ours != theirs:
            call = ", ".join(f"{name}={factor!r}" for name, factor in arguments.items())
            return NetworkName(
                None,
                reason=f"{timm_name(scalable.variant)}({call}) has {theirs.features} channels in its {place}, and this "
                f"network has {ours.features}",
            )
    return NetworkName(timm_name(scalable.variant), arguments)


def _layers(spec: ModelSpec, head_width: int) -> Iterator[tuple[str, LayerSpec | BlockSpec]]:
    yield "stem", spec.stem
    for number, block in enumerate(spec.blocks()):
        yield f"block {number}", block
    yield "head", dataclasses.replace(spec.head, features=head_width)


def build(timm: Any, spec: ModelSpec, architecture: Architecture, num_classes: int) -> Any:
    """Builds timm's network of a spec: with the function that `architecture` names, or else from its blocks."""
    if architecture.name is not None:
        arguments = architecture.arguments
        return timm.create_model(architecture.name, pretrained=False, num_classes=num_classes, **arguments)
    nn = importlib.import_module("torch").nn
    rows = itertools.groupby(spec.blocks(), lambda block: block.row)
    definition = [[_definition(block) for block in blocks] for _, blocks in rows]
    return timm.models.EfficientNet(
        importlib.import_module("timm.models._efficientnet_builder").decode_arch_def(definition),
        num_classes=num_classes,
        num_features=spec.head_width,
        stem_size=spec.stem.features,
        fix_stem=True,
        pad_type="same" if architecture.padding == "same" else "",
        act_layer=nn.SiLU,
        norm_layer=functools.partial(nn.BatchNorm2d, eps=architecture.bn_epsilon),
    )


def _definition(block: BlockSpec) -> str:
    """Returns a block in timm's notation, such as `ir_r1_k3_s2_e4_c48_se0.25`."""
    if block.kind == "fused":
        kind, end = ("er", "") if block.has_projection else ("cn", "_skip")
    else:
        kind, end = ("ds" if block.expand_ratio == 1 else "ir"), f"_se{block.se_features / block.input_features}"
    return f"{kind}_r1_k{block.kernel_size}_s{block.stride}_e{block.expand_ratio}_c{block.features}{end}"
