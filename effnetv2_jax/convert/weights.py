"""Reads weights of any framework as variables, and writes variables for any framework."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from effnetv2_jax.convert.contents import Contents, contents_of
from effnetv2_jax.convert.destination import appearing, is_folder
from effnetv2_jax.convert.formats.tensor_file import TensorFile
from effnetv2_jax.convert.frameworks.framework import FormatName
from effnetv2_jax.convert.frameworks.table import (
    FrameworkName,
    TargetName,
    framework_named,
    matching_frameworks,
    target_named,
)
from effnetv2_jax.convert.located_weights import LocatedWeights, locate
from effnetv2_jax.convert.tensor_check import check_names, read_tensors
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.convert.weight_file import PathLike, open_weight_file
from effnetv2_jax.convert.weight_writer import check_target, write_weights
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2, create_model
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variables import Variables
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.pretrained.published_weights import PublishedWeights

_HEAD = "params/classifier/"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Variables with their provenance.

    Attributes:
      variables: `{"params": …, "batch_stats": …}` of float32 NumPy arrays on the host.
      provenance: their provenance.
      loaded: paths of the leaves that were read from the file, such as `params/stem_conv/kernel`.
      new: paths of the leaves that were freshly initialised.
      notes: remarks for the user on the file.
    """

    variables: Variables
    provenance: Provenance
    loaded: tuple[str, ...]
    new: tuple[str, ...]
    notes: tuple[str, ...]

    def model(self, **fields: Any) -> EfficientNetV2:
        """Creates the network of the weights; `fields` are arguments of `create_model`, and replace its own."""
        own = {"num_classes": self.provenance.num_classes} | self.provenance.model_fields
        return create_model(self.provenance.spec, **own | fields)


def load_variables(
    path: PathLike,
    variant: str | ModelSpec | None = None,
    *,
    framework: FrameworkName | None = None,
    moving_average: bool = True,
    new_head: int | None = None,
) -> Variables:
    """Returns the variables of a file. Works like `load_weights`, but issues the notes as warnings."""
    weights = load_weights(path, variant, framework=framework, moving_average=moving_average, new_head=new_head)
    for note in weights.notes:
        warnings.warn(note, stacklevel=2)
    return weights.variables


def load_weights(
    path: PathLike,
    variant: str | ModelSpec | None = None,
    *,
    framework: FrameworkName | None = None,
    moving_average: bool = True,
    new_head: int | None = None,
    num_classes: int | None = None,
    default_variant: str | ModelSpec | None = None,
    seed: int = 0,
) -> Weights:
    """Reads weights of any framework; each tensor of the file is used exactly once.

    Args:
      path: local, `gs://…`, `hf://OWNER/REPOSITORY[/FILE][@REVISION]`, or the name of published weights, such as
        `efficientnetv2-s.in21k_ft_in1k`; `list_pretrained` has all names. For `official`: a `.tgz`, a folder, or the
        prefix of a checkpoint. For `timm`, `torchvision` and `article`: a `.safetensors` or `.pth` file, or a folder
        with `model.safetensors`. For `keras`: an `.h5` file. For `flax`: a `.safetensors` file that this project wrote,
        a folder with one as `model.safetensors`, or the folder of a run.
      variant: a name of `VARIANTS` or a spec; None if the file or the name says it.
      framework: the framework of the file; None finds it from the file.
      moving_average: whether to read averaged weights if the file has averaged and raw ones.
      new_head: None keeps the file's classifier; N replaces it with a fresh one of N classes; 0 leaves it out.
      num_classes: the number of classes that is needed, in place of `new_head`: the file's classifier is kept if it has
        this number of classes, and replaced otherwise.
      default_variant: the architecture to assume if `variant` is None and the file does not record its own.
      seed: seed of a fresh classifier.

    Raises:
      ValueError: for a damaged file, a file of another architecture (the message names missing, unknown and misshapen
        tensors), an unknown variant or framework, or a file that does not record a variant or framework that is not
        given.
      ImportError: if the format needs a package that is not installed.
      OSError: if the file does not exist, cannot be read, or is needed from the network and cannot be downloaded.
    """
    _check_classes(new_head, num_classes)
    known = None if framework is None else framework_named(framework)
    located = locate(path, framework)
    if located.row is not None:
        known, default_variant = framework_named(located.row.framework), located.row.variant
        _check_variant(located.row, variant)
    try:
        with open_weight_file(located.path, known, moving_average=moving_average) as (format_name, file):
            contents = contents_of(file, format_name, known, variant, default_variant)
            _check(file, format_name, contents, head_needed=new_head is None and num_classes is None)
            tensors = network_tensors(contents.spec, contents.num_classes or 0)
            values = read_tensors(file, tensors, contents.framework)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if str(path) in message else f"{path}: {message}") from error
    provenance = _provenance(located, contents, file)
    if num_classes is not None and num_classes != contents.num_classes:
        new_head = num_classes
    new: dict[str, np.ndarray] = {}
    if new_head is not None:
        values = {name: value for name, value in values.items() if not name.startswith(_HEAD)}
        new = _new_head(contents.spec, new_head, seed)
        provenance = dataclasses.replace(provenance, num_classes=new_head, class_names=(), label_set="")
    variables = traverse_util.unflatten_dict(values | new, sep="/")
    return Weights(variables, provenance, tuple(values), tuple(new), contents.notes)


def _check_variant(row: PublishedWeights, variant: str | ModelSpec | None) -> None:
    """Raises ValueError unless published weights are those of the variant that is asked for, if any is."""
    if variant is not None and get_spec(variant) != get_spec(row.variant):
        raise ValueError(f"{row.name} has the weights of {row.variant}, not of {get_spec(variant).name}")


def _provenance(located: LocatedWeights, contents: Contents, file: TensorFile) -> Provenance:
    """Returns the provenance of weights. For published ones, the table replaces their `config.json`."""
    provenance = contents.provenance(file, located.name)
    row = located.row
    if row is None or contents.recorded is not None:
        return provenance
    return dataclasses.replace(provenance, preprocessing=row.preprocessing, eval_size=row.eval_size, eval_crop="")


def _check_classes(new_head: int | None, num_classes: int | None) -> None:
    if new_head is not None and num_classes is not None:
        raise ValueError(f"give new_head or num_classes, not both; got {new_head} and {num_classes}")
    for name, value in (("new_head", new_head), ("num_classes", num_classes)):
        if value is not None and value < 0:
            raise ValueError(f"{name} must be None or at least 0, got {value}")


def _check(file: TensorFile, format_name: FormatName, contents: Contents, *, head_needed: bool) -> None:
    """Raises ValueError unless the file has the tensors of its network."""
    tensors = network_tensors(contents.spec, contents.num_classes or 0)
    try:
        check_names(file.shapes, tensors, contents.framework)
    except ValueError as error:
        others = matching_frameworks(file.shapes, contents.spec, format_name)
        names = ", ".join(other.name for other in others if other is not contents.framework)
        raise ValueError(f"{error}; its names are those of {names}" if names else str(error)) from error
    if contents.num_classes is None and head_needed:
        raise ValueError(
            "the file has no classifier; ask for a new head (new_head=N or --new-head N) or for none "
            "(new_head=0 or --drop-head)"
        )


def _new_head(spec: ModelSpec, num_classes: int, seed: int) -> dict[str, np.ndarray]:
    """Returns the leaves of a fresh classifier by path; none for 0 classes."""
    if not num_classes:
        return {}
    draw = create_model(spec, num_classes=num_classes).classifier_init.draw
    kernel = draw(np.random.default_rng(seed), (spec.head_width, num_classes))
    return {f"{_HEAD}kernel": kernel, f"{_HEAD}bias": np.zeros(num_classes, np.float32)}


def save_variables(
    path: PathLike,
    variables: Mapping[str, Any],
    variant: str | ModelSpec,
    *,
    target: TargetName = "flax",
    provenance: Provenance | None = None,
) -> None:
    """Writes variables for a framework. The file appears complete or not at all.

    Args:
      path: a `.safetensors` file. For `timm` also a folder, which gets `model.safetensors` and the `config.json` that
        `timm.create_model("local-dir:<folder>", pretrained=True)` reads. Both may lie in `gs://…`, or in a repository
        of the Hugging Face Hub: `hf://OWNER/REPOSITORY[/FILE.safetensors]`.
      variables: `{"params": …, "batch_stats": …}`, float32 or narrower.
      variant: a name of `VARIANTS` or a spec.
      target: the framework that will read the file.
      provenance: the provenance to record in the file; None records the padding, the BatchNorm epsilon, the
        preprocessing and the evaluation size of the variant.

    Raises:
      ValueError: for variables of another architecture (the message names missing, unknown and misshapen ones), a
        provenance of another architecture, a target without such a network, or a path that the target cannot be
        written to.
      OSError: if the file cannot be written.
    """
    spec = get_spec(variant)
    if provenance is not None and provenance.spec != spec:
        raise ValueError(f"the provenance is that of {provenance.spec.name}, the variant is {spec.name}")
    framework = target_named(target)
    check_target(path, spec, framework)
    provenance = provenance or default_provenance(variables, spec)
    folder = is_folder(path)
    with appearing(path) as temporary:
        write_weights(temporary, variables, provenance, framework, folder=folder)


def default_provenance(variables: Mapping[str, Any], spec: ModelSpec) -> Provenance:
    """Returns the provenance of variables of which only the architecture is known."""
    classifier = variables.get("params", {}).get("classifier", {"bias": ()})
    return Provenance(
        spec=spec,
        num_classes=np.shape(classifier["bias"])[0],
        padding=spec.padding,
        bn_epsilon=spec.bn_epsilon,
        preprocessing=spec.preprocessing,
        eval_size=spec.eval_size,
    )
