"""One row a tensor: its path here, its shape, and its name in every other framework."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Literal

from effnetv2_jax.model.specs import BlockSpec, ModelSpec

Convention = Literal["official", "timm", "torchvision", "article", "flax"]
Kind = Literal["conv", "depthwise", "squeeze", "dense", "vector"]
Names = Mapping[str, str]

SOURCES: tuple[Convention, ...] = ("official", "timm", "torchvision", "article", "flax")
TARGETS: tuple[Convention, ...] = ("timm", "torchvision", "article", "flax")
TORCH: tuple[Convention, ...] = ("timm", "torchvision", "article")


@dataclasses.dataclass(frozen=True)
class TensorRow:
    """One tensor of the network.

    `path` and `shape` are ours, as in `params/block_3/expand_conv/kernel` and `(1, 1, 48, 192)`; `kind` tells the
    layouts how those of others differ; `names` has its name by convention, without those that have no such tensor.
    """

    path: str
    shape: tuple[int, ...]
    kind: Kind
    names: Names

    def name(self, convention: str) -> str:
        """Returns the tensor's name in a convention.

        Raises:
          ValueError: if the convention's networks have no such tensor.
        """
        if convention not in self.names:
            raise ValueError(f"{convention} has no network with {self.path}; this one fits {', '.join(self.names)}")
        return self.names[convention]


@functools.lru_cache(maxsize=64)
def tensor_rows(spec: ModelSpec, num_classes: int) -> tuple[TensorRow, ...]:
    """Returns every parameter and statistic of a network in order; with 0 classes, those without the classifier."""
    return tuple(_rows(spec, num_classes))


# The modules of a unit in each framework: a convolution and its norm, or the two convolutions of a squeeze.
# Sources: google/automl efficientnetv2/effnetv2_model.py; timm models/_efficientnet_blocks.py; torchvision
# models/efficientnet.py; the article's effnetv2.py.
_COLUMNS = ("official", "timm", "torchvision", "article")
_NORM = "tpu_batch_normalization"
# fmt: off
_STEM = (f"stem/conv2d stem/{_NORM}", "conv_stem bn1", "features.0.0 features.0.1", "features.0.0 features.0.1")
_HEAD = (f"head/conv2d head/{_NORM}", "conv_head bn2", "features.{last}.0 features.{last}.1", "conv.0 conv.1")
_CLASSIFIER = ("head_1/dense", "classifier", "classifier.1", "classifier")
_BLOCKS = {
    ("mbconv", "expanded"): (
        ("expand",    f"conv2d {_NORM}",             "conv_pw bn1",                  "0.0 0.1",     "0 1"),
        ("depthwise", f"depthwise_conv2d {_NORM}_1", "conv_dw bn2",                  "1.0 1.1",     "3 4"),
        ("se",        "se/conv2d se/conv2d_1",       "se.conv_reduce se.conv_expand", "2.fc1 2.fc2", "6.fc.0 6.fc.2"),
        ("project",   f"conv2d_1 {_NORM}_2",         "conv_pwl bn3",                 "3.0 3.1",     "7 8"),
    ),
    ("mbconv", "plain"): (
        ("depthwise", f"depthwise_conv2d {_NORM}",   "conv_dw bn1",                  "0.0 0.1",     ""),
        ("se",        "se/conv2d se/conv2d_1",       "se.conv_reduce se.conv_expand", "1.fc1 1.fc2", ""),
        ("project",   f"conv2d {_NORM}_1",           "conv_pw bn2",                  "2.0 2.1",     ""),
    ),
    ("fused", "expanded"): (
        ("fused",     f"conv2d {_NORM}",             "conv_exp bn1",                 "0.0 0.1",     "0 1"),
        ("project",   f"conv2d_1 {_NORM}_1",         "conv_pwl bn2",                 "1.0 1.1",     "3 4"),
    ),
    ("fused", "plain"): (
        ("fused",     f"conv2d {_NORM}",             "conv bn1",                     "0.0 0.1",     ""),
    ),
}
# fmt: on


def _rows(spec: ModelSpec, num_classes: int) -> Iterator[TensorRow]:
    blocks = list(spec.blocks())
    known = ("article",) if spec.projects_expand_1 else ("official", "timm", "torchvision")
    last = str(len(spec.rows) + 1)

    def modules(cells: tuple[str, ...]) -> list[Names]:
        pairs = [cell.replace("{last}", last).split() for cell in cells]
        named = [dict(zip(_COLUMNS, column, strict=True)) for column in zip(*pairs, strict=True)]
        return [{key: names[key] for key in known} for names in named]

    yield from _conv_rows("stem", "conv", (3, 3, 3, spec.stem_width), *modules(_STEM))
    for i, (block, place) in enumerate(zip(blocks, _places(blocks), strict=True)):
        yield from _block_rows(f"block_{i}", block, {key: place[key] for key in known})
    yield from _conv_rows("head", "conv", (1, 1, blocks[-1].features, spec.head_width), *modules(_HEAD))
    if num_classes:
        yield from _dense_rows("classifier", "dense", (spec.head_width, num_classes), *modules(_CLASSIFIER))


def _places(blocks: list[BlockSpec]) -> Iterator[Names]:
    """Yields what a block's modules are called after, by convention."""
    repeats: dict[int, int] = {}
    for i, block in enumerate(blocks):
        repeat = repeats[block.row] = repeats.get(block.row, -1) + 1
        yield {
            "official": f"blocks_{i}/",
            "timm": f"blocks.{block.row}.{repeat}.",
            "torchvision": f"features.{block.row + 1}.{repeat}.block.",
            "article": f"features.{i + 1}.conv.",
        }


def _block_rows(path: str, block: BlockSpec, place: Names) -> Iterator[TensorRow]:
    expanded = block.has_projection if block.kind == "fused" else block.expand_ratio != 1
    units = {unit[0]: unit[1:] for unit in _BLOCKS[block.kind, "expanded" if expanded else "plain"]}
    if ("se" in units) != bool(block.se_features):  # a search's own block, which no other framework has
        units, place = units | {"se": ("",) * 4}, {}
    for role, kind, shape in _convs(block):
        cells = {key: cell.split() for key, cell in zip(_COLUMNS, units[role], strict=True) if cell and key in place}
        first, second = ({key: place[key] + modules[k] for key, modules in cells.items()} for k in (0, 1))
        if role == "se":
            yield from _dense_rows(f"{path}/se/reduce", kind, shape, first)
            yield from _dense_rows(f"{path}/se/expand", kind, (1, 1, shape[3], shape[2]), second)
        else:
            yield from _conv_rows(f"{path}/{role}", kind, shape, first, second)


def _convs(block: BlockSpec) -> Iterator[tuple[str, Kind, tuple[int, ...]]]:
    """Yields role, kind and kernel shape of a block's units in the order of computation."""
    k, width = block.kernel_size, block.expanded_features
    if block.kind == "fused":
        width = width if block.has_projection else block.features
        yield "fused", "conv", (k, k, block.input_features, width)
    else:
        if block.expand_ratio != 1:
            yield "expand", "conv", (1, 1, block.input_features, width)
        yield "depthwise", "depthwise", (k, k, 1, width)
    if block.se_features:
        yield "se", "squeeze", (1, 1, width, block.se_features)
    if block.has_projection:
        yield "project", "conv", (1, 1, width, block.features)


def _conv_rows(path: str, kind: Kind, shape: tuple[int, ...], conv: Names, norm: Names) -> Iterator[TensorRow]:
    kernel = "depthwise_kernel" if kind == "depthwise" else "kernel"
    yield _row(f"params/{path}_conv/kernel", shape, kind, conv, kernel, "weight")
    for leaf, official, torch in (
        ("params/{}/scale", "gamma", "weight"),
        ("params/{}/bias", "beta", "bias"),
        ("batch_stats/{}/mean", "moving_mean", "running_mean"),
        ("batch_stats/{}/var", "moving_variance", "running_var"),
    ):
        yield _row(leaf.format(f"{path}_norm"), shape[-1:], "vector", norm, official, torch)


def _dense_rows(path: str, kind: Kind, shape: tuple[int, ...], module: Names) -> Iterator[TensorRow]:
    yield _row(f"params/{path}/kernel", shape, kind, module, "kernel", "weight")
    yield _row(f"params/{path}/bias", shape[-1:], "vector", module, "bias", "bias")


def _row(path: str, shape: tuple[int, ...], kind: Kind, modules: Names, official: str, torch: str) -> TensorRow:
    names = {key: f"{name}/{official}" if key == "official" else f"{name}.{torch}" for key, name in modules.items()}
    return TensorRow(path, shape, kind, names | {"flax": path})
