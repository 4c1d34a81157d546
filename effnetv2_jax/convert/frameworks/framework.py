"""The record that describes a framework: the names and layouts of its tensors, its networks and their arithmetic."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from effnetv2_jax.convert.frameworks.architecture import Architecture, NetworkName
from effnetv2_jax.convert.frameworks.folder_description import FolderDescription
from effnetv2_jax.convert.frameworks.layout import Layout
from effnetv2_jax.convert.tensors import Kind, Leaf, Tensor
from effnetv2_jax.model.lax_convolution import Padding
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.specs import ModelSpec, Rounding
from effnetv2_jax.model.variants import VARIANTS

FormatName = Literal["checkpoint", "huggingface", "safetensors", "pth", "h5", "run"]
"""A format that weights come in: a TensorFlow checkpoint, a Hugging Face folder, a file, or the folder of a run."""

Modules = tuple[str, str]

IMAGENET: Mapping[int, str] = MappingProxyType({1000: "imagenet-1k", 21843: "imagenet-21k"})
"""Number of classes → the data set of published weights with that number."""

RunNetwork = Callable[[ModelSpec, Architecture, int, Path, np.ndarray], tuple[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class ModuleNames:
    """A framework's names of modules and tensors.

    The name of a tensor consists of the name of its module, `separator` and the name of its leaf. The names of modules
    are templates for `str.format`: `{block}`, `{row}` and `{repeat}` are the indices of a `Place`, `{next_block}` and
    `{next_row}` are one more, and `{letter}` is `a`, `b`, … for the repeats 0, 1, ….

    Attributes:
      stem: the convolution and the norm of the stem.
      head: the convolution and the norm of the head.
      classifier: the dense layer.
      block: prefix of the modules of a block.
      blocks: one mapping for each structure of a block that the framework has, from the name of a layer to the names
        of its two modules.
      leaves: each leaf's name.
      separator: the text between the name of a module and the name of a leaf.
    """

    stem: Modules
    head: Modules
    classifier: str
    block: str
    blocks: Sequence[Mapping[str, Modules]]
    leaves: Mapping[Leaf, str]
    separator: str = "."

    def name_of(self, tensor: Tensor) -> str:
        """Returns the name of a tensor.

        Raises:
          ValueError: if the tensor belongs to a block with a structure that the framework does not have.
        """
        place = tensor.place
        modules: Sequence[str]
        if place.component == "block":
            modules = self._block(place.layers)[place.layer]
            prefix = self.block
        else:
            modules = {"stem": self.stem, "head": self.head, "classifier": (self.classifier,)}[place.component]
            prefix = ""
        module = (prefix + modules[tensor.module]).format(
            block=place.block,
            next_block=place.block + 1,
            row=place.row,
            next_row=place.row + 1,
            repeat=place.repeat,
            letter=chr(ord("a") + place.repeat),
        )
        return f"{module}{self.separator}{self.leaves[tensor.leaf]}"

    def has_block(self, layers: Sequence[str]) -> bool:
        """Whether the framework has blocks of these layers."""
        return any(tuple(block) == tuple(layers) for block in self.blocks)

    def _block(self, layers: Sequence[str]) -> Mapping[str, Modules]:
        for block in self.blocks:
            if tuple(block) == tuple(layers):
                return block
        raise ValueError(f"there is no name for a block of the layers {', '.join(layers)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Framework:
    """Everything that conversion knows about a framework.

    Attributes:
      name: how users name it.
      names: its names of modules and tensors; None if they are the paths of our variables.
      layouts: its order of axes for each kind of tensor.
      formats: the formats that its weights come in.
      architectures: its networks by variant.
      padding: the padding of networks that it has no name for; None if it uses the spec's own padding.
      bn_epsilon: the BatchNorm epsilon of such networks; None if it uses the spec's own.
      projects_expand_1: whether its fused blocks of expand ratio 1 have a projection, as in the article's network.
      is_target: whether weights can be written for it.
      is_pytorch: whether its weights are PyTorch state dicts, which also contain a step counter for each BatchNorm.
      find_network: returns the framework's name of a network whose spec is not that of a variant; None if it names only
        variants.
      package: the package that has its networks; None if it has none to run.
      run: loads a safetensors file into the framework's own network and runs it; None if it has none to run. Takes the
        spec, its architecture, the number of classes, the file and images `[N, H, W, 3]`. Returns the package with its
        version and its call, and the logits, or the pooled features if there are no classes. Raises NoNetwork if a
        package is missing or cannot build the network.
      folder_config: returns the `config.json` of a Hugging Face folder for a provenance and its architecture; None if
        the framework reads no such folders.
      folder_arguments: returns the arguments with which the function builds a network of the weights' own padding and
        epsilon, for a folder's `config.json`; None if the function has no such arguments.
      folder_description: returns what the `config.json` beside weights says of them, or None if it is not the
        framework's; None if the framework reads no such files.
      label_sets: number of classes → the data set of published weights with that number.
      file_preprocessing: part of a file's name → the preprocessing family of such files, for weights that need another
        family than their architecture's.
      rounding: how the framework's own code rounds widths, if that may differ from the published architecture.
    """

    name: str
    names: ModuleNames | None
    layouts: Mapping[Kind, Layout]
    formats: tuple[FormatName, ...]
    architectures: Mapping[str, Architecture] = dataclasses.field(default_factory=dict)
    padding: Padding | None = None
    bn_epsilon: float | None = None
    projects_expand_1: bool = False
    is_target: bool = True
    is_pytorch: bool = False
    find_network: Callable[[ModelSpec], NetworkName] | None = None
    package: str | None = None
    run: RunNetwork | None = None
    folder_config: Callable[[Provenance, Architecture], dict[str, Any]] | None = None
    folder_arguments: Callable[[Provenance], Mapping[str, float | str]] | None = None
    folder_description: Callable[[Mapping[str, Any]], FolderDescription | None] | None = None
    label_sets: Mapping[int, str] = dataclasses.field(default_factory=dict)
    file_preprocessing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rounding: Rounding | None = None

    def name_of(self, tensor: Tensor) -> str:
        """Returns the framework's name of a tensor.

        Raises:
          ValueError: if the framework has no such tensor.
        """
        if self.names is None:
            return tensor.path
        try:
            return self.names.name_of(tensor)
        except ValueError as error:
            raise ValueError(f"{self.name} has no counterpart of {tensor.path}: {error}") from error

    def layout_of(self, tensor: Tensor) -> Layout:
        """Returns the framework's layout of a tensor."""
        return self.layouts[tensor.kind]

    def shape_of(self, tensor: Tensor) -> tuple[int, ...]:
        """Returns the framework's shape of a tensor."""
        return self.layout_of(tensor).shape(tensor.shape)

    def counter_names(self, tensors: Sequence[Tensor]) -> list[str]:
        """Returns the names of the BatchNorm step counters, which PyTorch stores and conversion does not need."""
        if not self.is_pytorch:
            return []
        variances = (self.name_of(tensor) for tensor in tensors if tensor.leaf == "variance")
        return [name.replace("running_var", "num_batches_tracked") for name in variances]

    def has_network(self, spec: ModelSpec) -> bool:
        """Whether the framework has networks with the structure of `spec`; widths and depths do not matter."""
        if self.names is None:
            return True
        if spec.projects_expand_1 != self.projects_expand_1:
            return False
        return all(self.names.has_block([layer.name for layer in block.layers()]) for block in spec.blocks())

    def architecture(self, spec: ModelSpec) -> Architecture:
        """Returns the framework's network of a spec."""
        if spec.name in self.architectures and VARIANTS.get(spec.name) == spec:
            return self.architectures[spec.name]
        found = self.find_network(spec) if self.find_network else NetworkName(None, reason="it names only variants")
        return Architecture(
            found.name,
            self.padding or spec.padding,
            self.bn_epsilon or spec.bn_epsilon,
            spec.preprocessing,
            spec.eval_size,
            found.arguments,
            found.reason,
        )

    def written_architecture(self, provenance: Provenance, *, folder: bool) -> Architecture:
        """Returns the network with which the framework computes these weights after they are written for it.

        Args:
          provenance: the provenance of the weights.
          folder: whether they are written as a folder, whose `config.json` may name the padding and the epsilon.
        """
        architecture = self.architecture(provenance.spec)
        if self.padding is not None and not (folder and self.folder_arguments):
            return architecture
        added = self.folder_arguments(provenance) if self.folder_arguments else {}
        return dataclasses.replace(
            architecture,
            padding=provenance.padding,
            bn_epsilon=provenance.bn_epsilon,
            arguments={**architecture.arguments, **added},
        )
