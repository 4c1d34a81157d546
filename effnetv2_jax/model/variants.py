"""Every published architecture, as rows of data with their citations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from effnetv2_jax.model.spec_file import SUFFIX, parse_spec, read_spec
from effnetv2_jax.model.specs import ModelSpec, RowSpec
from effnetv2_jax.similar_names import did_you_mean


def _fused(expand_ratio: int, stride: int, features: int, repeats: int) -> RowSpec:
    return RowSpec("fused", expand_ratio, 3, stride, features, repeats)


def _mbconv(expand_ratio: int, stride: int, features: int, repeats: int, kernel_size: int = 3) -> RowSpec:
    return RowSpec("mbconv", expand_ratio, kernel_size, stride, features, repeats, se_ratio=0.25)


_V2_PAPER = "Tan & Le, EfficientNetV2, arXiv 2104.00298; google/automl efficientnetv2/effnetv2_configs.py @6a54c87"
_V1_PAPER = "Tan & Le, EfficientNet, arXiv 1905.11946, tables 1 and 2"
_ARTICLE = "The plain PyTorch EffNetV2 of the paper-reading article (d-li14/efficientnetv2.pytorch)"

# fmt: off
_V2_BASE = (
    _fused(1, 1, 16, 1), _fused(4, 2, 32, 2), _fused(4, 2, 48, 2),
    _mbconv(4, 2, 96, 3), _mbconv(6, 1, 112, 5), _mbconv(6, 2, 192, 8),
)
_V2_S = (
    _fused(1, 1, 24, 2), _fused(4, 2, 48, 4), _fused(4, 2, 64, 4),
    _mbconv(4, 2, 128, 6), _mbconv(6, 1, 160, 9), _mbconv(6, 2, 256, 15),
)
_V2_M = (
    _fused(1, 1, 24, 3), _fused(4, 2, 48, 5), _fused(4, 2, 80, 5),
    _mbconv(4, 2, 160, 7), _mbconv(6, 1, 176, 14), _mbconv(6, 2, 304, 18), _mbconv(6, 1, 512, 5),
)
_V2_L = (
    _fused(1, 1, 32, 4), _fused(4, 2, 64, 7), _fused(4, 2, 96, 7),
    _mbconv(4, 2, 192, 10), _mbconv(6, 1, 224, 19), _mbconv(6, 2, 384, 25), _mbconv(6, 1, 640, 7),
)
_V2_XL = (
    _fused(1, 1, 32, 4), _fused(4, 2, 64, 8), _fused(4, 2, 96, 8),
    _mbconv(4, 2, 192, 16), _mbconv(6, 1, 256, 24), _mbconv(6, 2, 512, 32), _mbconv(6, 1, 640, 8),
)
_V1_BASE = (
    _mbconv(1, 1, 16, 1), _mbconv(6, 2, 24, 2), _mbconv(6, 2, 40, 2, kernel_size=5), _mbconv(6, 2, 80, 3),
    _mbconv(6, 1, 112, 3, kernel_size=5), _mbconv(6, 2, 192, 4, kernel_size=5), _mbconv(6, 1, 320, 1),
)

_V2 = (
    # name, rows, stem, train px, eval px, dropout, top-1, top-1 from 21k
    ("s", _V2_S, 24, 300, 384, 0.2, 83.9, 84.9),
    ("m", _V2_M, 24, 384, 480, 0.3, 85.2, 86.2),
    ("l", _V2_L, 32, 384, 480, 0.4, 85.7, 86.9),
    ("xl", _V2_XL, 32, 384, 512, 0.4, None, 87.2),
)
_V2_B = (
    # name, width, depth, train px, eval px, dropout, top-1
    ("b0", 1.0, 1.0, 192, 224, 0.2, 78.7),
    ("b1", 1.0, 1.1, 192, 240, 0.2, 79.8),
    ("b2", 1.1, 1.2, 208, 260, 0.3, 80.5),
    ("b3", 1.2, 1.4, 240, 300, 0.3, 82.1),
)
_V1 = (
    # name, width, depth, eval px, dropout, top-1
    ("b0", 1.0, 1.0, 224, 0.2, 77.1),
    ("b1", 1.0, 1.1, 240, 0.2, 79.1),
    ("b2", 1.1, 1.2, 260, 0.3, 80.1),
    ("b3", 1.2, 1.4, 300, 0.3, 81.6),
    ("b4", 1.4, 1.8, 380, 0.4, 82.9),
    ("b5", 1.6, 2.2, 456, 0.4, 83.6),
    ("b6", 1.8, 2.6, 528, 0.5, 84.0),
    ("b7", 2.0, 3.1, 600, 0.5, 84.3),
)
# fmt: on


def _variants() -> Iterator[ModelSpec]:
    for name, rows, stem, train_size, eval_size, dropout_rate, top1, top1_21k in _V2:
        yield ModelSpec(
            f"efficientnetv2-{name}", rows, stem, _V2_PAPER, train_size, eval_size, dropout_rate,
            top1=top1, top1_21k=top1_21k,
        )  # fmt: skip
    for name, width, depth, train_size, eval_size, dropout_rate, top1 in _V2_B:
        yield ModelSpec(
            f"efficientnetv2-{name}", _V2_BASE, 32, _V2_PAPER, train_size, eval_size, dropout_rate,
            width=width, depth=depth, preprocessing="legacy", top1=top1,
        )  # fmt: skip
    for name, width, depth, eval_size, dropout_rate, top1 in _V1:
        train_size = int(0.8 * eval_size) // 16 * 16
        yield ModelSpec(
            f"efficientnet-{name}", _V1_BASE, 32, _V1_PAPER, train_size, eval_size, dropout_rate,
            width=width, depth=depth, preprocessing="legacy", rounding="divisible", top1=top1,
        )  # fmt: skip
    for name, rows, _, train_size, eval_size, *_ in _V2:
        yield ModelSpec(
            f"article-{name}", rows, 24, _ARTICLE, train_size, eval_size, dropout_rate=0.0,
            head_features=1792, drop_path_rate=0.0, bn_epsilon=1e-5, padding="symmetric", rounding="divisible",
            projects_expand_1=True, rounds_se=True,
        )  # fmt: skip


VARIANTS: Mapping[str, ModelSpec] = MappingProxyType({spec.name: spec for spec in _variants()})


def get_spec(variant: str | ModelSpec) -> ModelSpec:
    """Returns the spec of a variant's name, of a file of `write_spec` or of its content, or the spec itself.

    A text that ends with `.json` is the path of a file, and one that begins with `{` is the content of one.

    Raises:
      ValueError: for an unknown name; the message lists the known ones. For a file that is not a spec, or whose spec
        has the name of a variant from which it differs.
      OSError: if the file cannot be read.
    """
    if isinstance(variant, ModelSpec):
        return variant
    if variant in VARIANTS:
        return VARIANTS[variant]
    if not variant.startswith("{") and not variant.endswith(SUFFIX):
        raise ValueError(
            f"unknown variant {variant!r}{did_you_mean(variant, VARIANTS)} (known variants: {', '.join(VARIANTS)}; a "
            f"file with a spec ends with {SUFFIX})"
        )
    spec = parse_spec(variant) if variant.startswith("{") else read_spec(variant)
    if VARIANTS.get(spec.name, spec) != spec:
        raise ValueError(f"the spec has the name of the variant {spec.name} and differs from it: give it another name")
    return spec
