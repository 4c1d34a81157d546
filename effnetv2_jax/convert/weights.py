"""Weights in and out: a file of any framework to our variables, and back."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from effnetv2_jax.convert.atomic_write import replacing
from effnetv2_jax.convert.formats.pth_file import counter_names
from effnetv2_jax.convert.formats.tensor_file import check_names, read_rows
from effnetv2_jax.convert.names import TORCH, Convention, tensor_rows
from effnetv2_jax.convert.sources import PathLike, open_source, provenance_of, stated_spec, stored_classes
from effnetv2_jax.convert.targets import check_target, is_folder, write_weights
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2, create_model
from effnetv2_jax.model.provenance import Provenance, provenance_from_metadata
from effnetv2_jax.model.specs import ModelSpec, get_spec

Variables = dict[str, Any]

_HEAD = "params/classifier/"


@dataclasses.dataclass(frozen=True)
class Weights:
    """Variables with what is known of them.

    Attributes:
      variables: `{"params": …, "batch_stats": …}` of float32 NumPy arrays on the host.
      provenance: the architecture, the number of classes, the preprocessing, the source.
      loaded: paths of the leaves that come from the file, as in `params/stem_conv/kernel`.
      new: paths of those that are freshly initialised.
      notes: what a user should be told.
    """

    variables: Variables
    provenance: Provenance
    loaded: tuple[str, ...]
    new: tuple[str, ...]
    notes: tuple[str, ...]

    def model(self, **fields: Any) -> EfficientNetV2:
        """Creates the network that the weights belong to; `fields` are those of `create_model`."""
        facts = self.provenance
        return create_model(facts.spec, num_classes=facts.num_classes, **facts.fields | fields)


def load_variables(
    path: PathLike,
    variant: str | ModelSpec | None = None,
    *,
    source: Convention = "flax",
    moving_average: bool = True,
    new_head: int | None = None,
) -> Variables:
    """Returns the variables of a file: `load_weights` without the facts about them, whose notes become warnings."""
    weights = load_weights(path, variant, source=source, moving_average=moving_average, new_head=new_head)
    for note in weights.notes:
        warnings.warn(note, stacklevel=2)
    return weights.variables


def load_weights(
    path: PathLike,
    variant: str | ModelSpec | None = None,
    *,
    source: Convention = "flax",
    moving_average: bool = True,
    new_head: int | None = None,
    seed: int = 0,
) -> Weights:
    """Reads weights of any framework; each tensor is used exactly once.

    Args:
      path: `official`: a `.tgz`, a folder, or a checkpoint's prefix. `timm`, `torchvision`, `article`: a `.safetensors`
        or `.pth` file, or a folder with `model.safetensors`. `flax`: a `.safetensors` file of ours, or a run's folder.
      variant: a name of `VARIANTS` or a spec; None: what the file says, if it is one of ours.
      source: whose names and layouts the file has.
      moving_average: where a file has averaged and raw weights, read the averaged ones.
      new_head: None keeps the file's classifier; N puts one of N classes in its place, freshly initialised from `seed`;
        0 leaves it out.
      seed: of the new classifier.

    Raises:
      ValueError: for a damaged file, one of another architecture (missing, unknown and misshapen tensors are named), or
        an unknown variant or source.
      ImportError: where the format needs a package that is not installed.
      OSError: if the file is not there or cannot be read.
    """
    if new_head is not None and new_head < 0:
        raise ValueError(f"new_head must be None or at least 0, got {new_head}")
    try:
        with open_source(path, source, moving_average=moving_average) as file:
            facts = provenance_from_metadata(file.metadata)
            spec, notes = stated_spec(file, facts, variant, source)
            num_classes = stored_classes(file, facts, spec, source)
            rows = tensor_rows(spec, num_classes or 0)
            check_names(file, rows, source, counter_names(rows, source) if source in TORCH else ())
            if num_classes is None and new_head is None:
                raise ValueError("it has no classifier: ask for a new head, or for none")
            tensors = read_rows(file, rows, source)
    except ValueError as error:
        said = str(error)
        raise ValueError(said if str(path) in said else f"{path}: {said}") from error
    provenance = provenance_of(Path(path).name, file, facts, spec, source, num_classes or 0)
    new: dict[str, np.ndarray] = {}
    if new_head is not None:
        tensors = {name: value for name, value in tensors.items() if not name.startswith(_HEAD)}
        new = _new_head(spec, new_head, seed)
        provenance = dataclasses.replace(provenance, num_classes=new_head, class_names=(), label_set="")
    variables = traverse_util.unflatten_dict(tensors | new, sep="/")
    return Weights(variables, provenance, tuple(tensors), tuple(new), notes)


def _new_head(spec: ModelSpec, num_classes: int, seed: int) -> dict[str, np.ndarray]:
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
    target: Convention = "flax",
    provenance: Provenance | None = None,
) -> None:
    """Writes variables for another framework, or for ours; the file appears whole or not at all.

    Args:
      path: a `.safetensors` file; for `timm` also a folder, which gets `model.safetensors` and the `config.json` that
        `timm.create_model("local-dir:<folder>", pretrained=True)` reads.
      variables: `{"params": …, "batch_stats": …}`, float32 or narrower.
      variant: a name of `VARIANTS` or a spec.
      target: whose names and layouts the file gets.
      provenance: what is known of the weights, written into the file; None: only that they belong to `variant`.

    Raises:
      ValueError: for variables that are not those of the variant (missing, unknown and misshapen ones are named), a
        target without such a network, or a path that such a target is not written to.
      OSError: if the file cannot be written.
    """
    spec = get_spec(variant)
    if provenance is not None and provenance.spec != spec:
        raise ValueError(f"the provenance is that of {provenance.spec.name}, the variant is {spec.name}")
    file = Path(path)
    check_target(file, spec, target)
    facts = provenance or default_provenance(variables, spec)
    with replacing(file) as temporary:
        write_weights(temporary, variables, facts, target, folder=is_folder(file))


def default_provenance(variables: Mapping[str, Any], spec: ModelSpec) -> Provenance:
    """Returns the facts about variables of which only the architecture is known."""
    classifier = variables.get("params", {}).get("classifier", {"bias": ()})
    return Provenance(
        spec=spec,
        num_classes=np.shape(classifier["bias"])[0],
        padding=spec.padding,
        bn_epsilon=spec.bn_epsilon,
        preprocessing=spec.preprocessing,
        eval_size=spec.eval_size,
    )
