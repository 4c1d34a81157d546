"""Scaling: larger networks from a spec, by the rule of EfficientNetV2's paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from effnetv2_jax.model.specs import ModelSpec, RowSpec, round_features

LARGEST_PHI = 12.0
_STEP = 0.05


@dataclasses.dataclass(frozen=True)
class ScalingRule:
    """How a network grows with the coefficient φ.

    The paper gives no numbers for "more layers in the late rows". `early`, `late`, `added_share` and `added_width` are
    this project's own: they were chosen so that S becomes nearly M and L.

    Attributes:
      depth: factor of the layers for φ = 1.
      width: factor of the channels for φ = 1.
      size: factor of the evaluation images' side for φ = 1.
      largest_size: the side in pixels at which the images stop growing.
      early: exponent of `depth` in all rows but the last two.
      late: exponent of `depth` in the last two rows and the added one.
      added_share: share of the late layers that go into a further row with stride 1. It is added if the last row halves
        the image.
      added_width: channels of the added row, as a multiple of those of the last row.
      dropout: added to the dropout rate for φ = 1.
      largest_dropout: the rate at which it stops growing.

    Source: for depth, width and size, Tan & Le, EfficientNet, arXiv 1905.11946, section 3.3; for largest_size and the
      late rows, Tan & Le, EfficientNetV2, arXiv 2104.00298, section 3.3; for dropout, the published variants.
    """

    depth: float = 1.2
    width: float = 1.1
    size: float = 1.15
    largest_size: int = 480
    early: float = 0.8
    late: float = 1.2
    added_share: float = 0.136
    added_width: float = 5 / 3
    dropout: float = 0.05
    largest_dropout: float = 0.5


RULE = ScalingRule()


def scale_spec(spec: ModelSpec, phi: float, rule: ScalingRule = RULE) -> ModelSpec:
    """Returns a larger network, whose rows have their final channels and layers; φ = 0 returns the spec itself.

    Raises:
      ValueError: if φ is not from 0 to `LARGEST_PHI`.
    """
    if not 0 <= phi <= LARGEST_PHI:
        raise ValueError(f"phi must be from 0 to {LARGEST_PHI:g}, got {phi}")
    if phi == 0:
        return spec
    width = rule.width**phi

    def features(unscaled: int, factor: float = 1.0) -> int:
        return round_features(spec.features(unscaled) * width * factor, spec.rounding)

    eval_size = max(spec.eval_size, min(rule.largest_size, _even(spec.eval_size * rule.size**phi)))
    dropout = max(spec.dropout_rate, min(rule.largest_dropout, spec.dropout_rate + rule.dropout * phi))
    *layers, added = _layers(spec, phi, rule)
    rows = [
        dataclasses.replace(row, features=features(row.features), repeats=repeats)
        for row, repeats in zip(spec.rows, layers, strict=True)
    ]
    if added:
        last = spec.rows[-1]
        rows.append(
            dataclasses.replace(last, stride=1, repeats=added, features=features(last.features, rule.added_width))
        )
    return dataclasses.replace(
        spec,
        name=f"{spec.name} (phi {phi:.2f})",
        rows=tuple(rows),
        stem_features=features(spec.stem_features),
        head_features=spec.head_width,
        width=1.0,
        depth=1.0,
        train_size=_even(spec.train_size * eval_size / spec.eval_size),
        eval_size=eval_size,
        dropout_rate=round(dropout, 3),
        top1=None,
        top1_21k=None,
    )


def largest_phi(
    spec: ModelSpec, cost: Callable[[ModelSpec], float], budget: float, rule: ScalingRule = RULE, what: str = "it"
) -> float:
    """Returns the largest φ, a multiple of 0.05, whose network costs at most `budget`.

    Args:
      spec: the network to scale.
      cost: what a network costs; it must not fall as φ grows.
      budget: what the larger network may cost.
      rule: how the network grows.
      what: what is counted, for the message.

    Raises:
      ValueError: if the spec itself costs more.
    """
    if (least := cost(spec)) > budget:
        raise ValueError(f"{what} must be at least those of {spec.name} itself, {least:.4g}, got {budget:.4g}")
    low, high = 0, round(LARGEST_PHI / _STEP) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(scale_spec(spec, middle * _STEP, rule)) <= budget else (low, middle)
    return round(low * _STEP, 2)


def layers_of(spec: ModelSpec) -> list[int]:
    """Returns the number of blocks in each row, after scaling."""
    blocks = [block.row for block in spec.blocks()]
    return [blocks.count(row) for row in range(len(spec.rows))]


def _layers(spec: ModelSpec, phi: float, rule: ScalingRule) -> list[int]:
    """Returns the layers of each row, and those of the added one; 0 if there is none."""
    now = layers_of(spec)
    early, late = now[:-2], now[-2:]
    total = sum(late) * rule.depth ** (rule.late * phi)
    share = rule.added_share * min(1.0, phi) if _halves(spec.rows[-1]) else 0.0
    factor = max(1.0, total * (1 - share) / sum(late))
    return [
        *(round(layers * rule.depth ** (rule.early * phi)) for layers in early),
        *(round(layers * factor) for layers in late),
        round(total * share),
    ]


def _halves(row: RowSpec) -> bool:
    return row.stride > 1


def _even(size: float) -> int:
    """Returns the multiple of 4 nearest to a side of an image."""
    return 4 * round(size / 4)
