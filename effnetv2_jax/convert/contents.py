"""The contents of a file of weights: framework, architecture, number of classes and recorded provenance."""

from __future__ import annotations

import dataclasses
from typing import cast

from effnetv2_jax.convert.formats.tensor_file import TensorFile
from effnetv2_jax.convert.frameworks.folder_description import FolderDescription
from effnetv2_jax.convert.frameworks.framework import FormatName, Framework
from effnetv2_jax.convert.frameworks.table import (
    FRAMEWORKS,
    check_structure,
    framework_named,
    framework_names,
    matching_frameworks,
)
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.model.provenance import FRAMEWORK_KEY, MAX_CLASSES, Averaging, Provenance, provenance_from_metadata
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variants import get_spec


@dataclasses.dataclass(frozen=True)
class Contents:
    """The contents of a file of weights.

    Attributes:
      framework: the framework that its names and layouts follow.
      spec: the architecture.
      num_classes: outputs of the classifier; 0 if the file records that it has none; None if the classifier is missing.
      recorded: the provenance that the file records; None if it records none.
      described: what the `config.json` beside the file says; None if there is none that says anything.
      notes: remarks for the user on the file.
    """

    framework: Framework
    spec: ModelSpec
    num_classes: int | None
    recorded: Provenance | None
    described: FolderDescription | None
    notes: tuple[str, ...]

    def provenance(self, file: TensorFile, name: str) -> Provenance:
        """Returns the provenance of the weights in a file called `name`."""
        read_from = f"{self.framework.name}:{name}"
        if self.recorded is not None:
            origin = self.recorded.origin or self.recorded.read_from
            return dataclasses.replace(self.recorded, origin=origin, read_from=read_from, read_from_sha256=file.sha256)
        architecture = self.framework.architecture(self.spec)
        special = [family for part, family in self.framework.file_preprocessing.items() if part in name]
        num_classes = self.num_classes or 0
        provenance = Provenance(
            spec=self.spec,
            num_classes=num_classes,
            padding=architecture.padding,
            bn_epsilon=architecture.bn_epsilon,
            averaging=cast("Averaging", file.metadata.get("averaging", "unknown")),  # set by the format's reader
            preprocessing=special[0] if special else architecture.preprocessing,
            eval_size=architecture.eval_size,
            label_set=self.framework.label_sets.get(num_classes, ""),
            read_from=read_from,
            read_from_sha256=file.sha256,
        )
        described = self.described
        if described is None:
            return provenance
        names = described.class_names if len(described.class_names) == num_classes else ()
        return dataclasses.replace(
            provenance,
            preprocessing=described.preprocessing,
            eval_size=described.eval_size,
            eval_crop=described.eval_crop,
            class_names=names,
            label_set="" if names else provenance.label_set,
        )


def contents_of(
    file: TensorFile,
    format_name: FormatName,
    framework: Framework | None,
    variant: str | ModelSpec | None,
    default_variant: str | ModelSpec | None = None,
) -> Contents:
    """Returns the contents of a file.

    Args:
      file: the open file.
      format_name: its format.
      framework: the framework; None to find it from the file.
      variant: the architecture; None if the file records it.
      default_variant: the architecture if neither `variant` nor the file names one.

    Raises:
      ValueError: if the architecture or the framework is not known, or contradicts what the file records.
    """
    recorded = provenance_from_metadata(file.metadata)
    described = None if recorded else _described(file, framework)
    spec = _spec(recorded, variant, described.variant if described and variant is None else default_variant)
    if described is not None and spec != get_spec(described.variant):
        described = None
    framework = framework or _framework(file, format_name, spec)
    check_structure(framework, spec)
    spec, notes = _as_rounded(file, spec, framework, recorded)
    return Contents(framework, spec, _num_classes(file, spec, framework, recorded), recorded, described, notes)


def _described(file: TensorFile, framework: Framework | None) -> FolderDescription | None:
    """Returns what the `config.json` beside a file says, read as that of its framework or of any."""
    readers = [known.folder_description for known in ([framework] if framework else FRAMEWORKS.values())]
    found = (reader(file.folder_config) for reader in readers if reader and file.folder_config)
    return next((description for description in found if description), None)


def _spec(
    recorded: Provenance | None, variant: str | ModelSpec | None, default_variant: str | ModelSpec | None
) -> ModelSpec:
    if recorded is None:
        given = default_variant if variant is None else variant
        if given is None:
            raise ValueError("the file does not record its variant; give the variant of its network")
        return get_spec(given)
    if variant is not None:
        given = get_spec(variant)
        if given.name != recorded.spec.name:
            raise ValueError(f"the file contains weights of {recorded.spec.name}, not of {given.name}")
        if given.rows != recorded.spec.rows:
            raise ValueError(f"the file contains weights of {given.name} with other rows of blocks than those given")
    return recorded.spec


def _framework(file: TensorFile, format_name: FormatName, spec: ModelSpec) -> Framework:
    """Returns the framework that the file records, or else the one that its format and names match."""
    recorded = file.metadata.get(FRAMEWORK_KEY)
    if recorded in framework_names():  # other programs may write this key, too
        return framework_named(recorded)
    matching = matching_frameworks(file.shapes, spec, format_name)
    if len(matching) == 1:
        return matching[0]
    found = " and ".join(framework.name for framework in matching) or "none"
    raise ValueError(
        f"the file does not record its framework, and its names match {found} for {spec.name}; "
        f"give the framework: one of {', '.join(framework_names())}"
    )


def _as_rounded(
    file: TensorFile, spec: ModelSpec, framework: Framework, recorded: Provenance | None
) -> tuple[ModelSpec, tuple[str, ...]]:
    """Returns the spec, with the framework's own rounding and a note on it if only that rounding fits the file."""
    if framework.rounding is None or recorded is not None or _fits(file, spec, framework):
        return spec, ()
    rounded = dataclasses.replace(spec, rounding=framework.rounding)
    if not _fits(file, rounded, framework):
        return spec, ()
    note = (
        f"the widths are those of {spec.name} in the {framework.name} code, which rounds with {framework.rounding!r} "
        f"where the published architecture rounds with {spec.rounding!r}; the architecture of the weights is "
        f"dataclasses.replace(VARIANTS[{spec.name!r}], rounding={framework.rounding!r})"
    )
    return rounded, (note,)


def _fits(file: TensorFile, spec: ModelSpec, framework: Framework) -> bool:
    tensors = network_tensors(spec, 0)
    return all(file.shapes.get(framework.name_of(tensor)) == framework.shape_of(tensor) for tensor in tensors)


def _num_classes(file: TensorFile, spec: ModelSpec, framework: Framework, recorded: Provenance | None) -> int | None:
    bias = framework.name_of(network_tensors(spec, 1)[-1])
    if bias not in file.shapes or len(file.shapes[bias]) != 1:
        return 0 if recorded is not None and recorded.num_classes == 0 else None
    num_classes = file.shapes[bias][0]
    if num_classes > MAX_CLASSES:
        raise ValueError(f"the classifier has {num_classes:,} classes, and the limit is {MAX_CLASSES:,}")
    if recorded is not None and recorded.num_classes != num_classes:
        raise ValueError(f"the file records {recorded.num_classes} classes, but its classifier has {num_classes}")
    return num_classes
