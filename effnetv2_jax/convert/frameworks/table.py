"""The table of frameworks by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal

from effnetv2_jax.convert.frameworks.article import ARTICLE
from effnetv2_jax.convert.frameworks.flax import FLAX
from effnetv2_jax.convert.frameworks.framework import FormatName, Framework
from effnetv2_jax.convert.frameworks.keras import KERAS
from effnetv2_jax.convert.frameworks.official import OFFICIAL
from effnetv2_jax.convert.frameworks.timm import TIMM
from effnetv2_jax.convert.frameworks.torchvision import TORCHVISION
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.model.specs import ModelSpec

FrameworkName = Literal["official", "timm", "torchvision", "keras", "article", "flax"]
TargetName = Literal["timm", "torchvision", "article", "flax"]

FRAMEWORKS: Mapping[str, Framework] = MappingProxyType(
    {framework.name: framework for framework in (OFFICIAL, TIMM, TORCHVISION, KERAS, ARTICLE, FLAX)}
)


def framework_names() -> tuple[str, ...]:
    """Returns the names of all frameworks."""
    return tuple(FRAMEWORKS)


def framework_named(name: str) -> Framework:
    """Returns a framework.

    Raises:
      ValueError: for an unknown name; the message lists the known ones.
    """
    if name not in FRAMEWORKS:
        raise ValueError(f"unknown framework {name!r}; known frameworks: {', '.join(FRAMEWORKS)}")
    return FRAMEWORKS[name]


def target_names() -> tuple[str, ...]:
    """Returns the names of the frameworks that weights can be written for."""
    return tuple(name for name, framework in FRAMEWORKS.items() if framework.is_target)


def target_named(name: str) -> Framework:
    """Returns a framework that weights can be written for.

    Raises:
      ValueError: for any other name; the message lists the allowed ones.
    """
    if name not in target_names():
        raise ValueError(f"unknown target {name!r}; known targets: {', '.join(target_names())}")
    return FRAMEWORKS[name]


def check_structure(framework: Framework, spec: ModelSpec) -> None:
    """Raises ValueError if a framework has no network with the structure of `spec`."""
    if not framework.has_network(spec):
        others = ", ".join(name for name, other in FRAMEWORKS.items() if other.has_network(spec))
        raise ValueError(
            f"{framework.name} has no network with the structure of {spec.name}; frameworks that have one: {others}"
        )


def matching_frameworks(names: Collection[str], spec: ModelSpec, format_name: FormatName) -> tuple[Framework, ...]:
    """Returns the frameworks that a file may belong to.

    If only one framework uses the format, it is that one. Otherwise, the names of the tensors in the stem and the first
    block decide.

    Args:
      names: the names of the file's tensors.
      spec: the architecture of its network.
      format_name: its format.
    """
    candidates = [framework for framework in FRAMEWORKS.values() if format_name in framework.formats]
    if len(candidates) == 1:
        return tuple(candidates)
    tensors = network_tensors(spec, 0)
    first = [tensor for tensor in tensors if tensor.place.component != "head" and tensor.place.block == 0]
    return tuple(
        framework
        for framework in candidates
        if framework.has_network(spec) and all(framework.name_of(tensor) in names for tensor in first)
    )
