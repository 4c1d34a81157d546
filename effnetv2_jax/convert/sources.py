"""Which reader opens a file, and what the file says of itself."""

from __future__ import annotations

import dataclasses
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from effnetv2_jax.convert.architectures import architecture
from effnetv2_jax.convert.formats import pth_file, run_folder, tensorflow_checkpoint
from effnetv2_jax.convert.formats.archive import is_archive
from effnetv2_jax.convert.formats.huggingface_folder import WEIGHTS
from effnetv2_jax.convert.formats.safetensors_file import open_safetensors
from effnetv2_jax.convert.formats.tensor_file import TensorFile
from effnetv2_jax.convert.layouts import LAYOUTS
from effnetv2_jax.convert.names import SOURCES, TORCH, Convention, tensor_rows
from effnetv2_jax.model.provenance import CONVENTION, Averaging, Provenance
from effnetv2_jax.model.specs import ModelSpec, get_spec

PathLike = str | os.PathLike[str]

_LABEL_SETS = {1000: "imagenet-1k", 21843: "imagenet-21k"}


def open_source(path: PathLike, source: Convention, *, moving_average: bool) -> AbstractContextManager[TensorFile]:
    """Opens a file of weights in any of the formats that a source comes in.

    Raises:
      ValueError: for an unknown source, or a format that it does not come in.
      FileNotFoundError: if the file is not there.
    """
    file = Path(path)
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}; known sources: {', '.join(SOURCES)}")
    if source == "official":
        return tensorflow_checkpoint.open_checkpoint(file, moving_average=moving_average)
    if (file / WEIGHTS).is_file():
        return open_safetensors(file / WEIGHTS)
    if file.suffix == ".safetensors":
        return open_safetensors(file)
    if file.suffix in pth_file.PTH_SUFFIXES and source in TORCH:
        return pth_file.open_pth(file, moving_average=moving_average)
    if source == "flax" and not file.is_file():
        return run_folder.open_run(path, moving_average=moving_average)
    if not file.exists():
        raise FileNotFoundError(f"{file} is not there")
    suffixes = (".safetensors", *(pth_file.PTH_SUFFIXES if source in TORCH else ()))
    raise ValueError(f"{file}: {source} weights come in {', '.join(suffixes)} files or in a folder with {WEIGHTS}")


def said_source(path: PathLike) -> Convention:
    """Returns whose names and layouts a file has, by what a file of ours says or by the format that only one has.

    Raises:
      ValueError: if it cannot be told.
      FileNotFoundError: if the file is not there.
    """
    file = Path(path)
    tensors = file / WEIGHTS if (file / WEIGHTS).is_file() else file
    if tensors.suffix == ".safetensors":
        with open_safetensors(tensors) as opened:
            said = opened.metadata.get(CONVENTION, "")
            if said in SOURCES:
                return said
    elif is_archive(file) or (file.is_dir() and any(file.glob("*.index"))):
        return "official"
    elif not file.is_file():
        return "flax"  # a run's folder, near or far
    raise ValueError(f"{file} does not say whose weights it has: name the source, one of {', '.join(SOURCES)}")


def stated_spec(
    file: TensorFile, facts: Provenance | None, variant: str | ModelSpec | None, source: Convention
) -> tuple[ModelSpec, tuple[str, ...]]:
    """Returns the architecture of a file's weights, and what there is to say about it.

    Raises:
      ValueError: if neither the file nor `variant` says which, or they disagree.
    """
    if variant is None:
        if facts is None:
            raise ValueError("the file does not say which variant it is: name one")
        return facts.spec, ()
    spec = get_spec(variant)
    if facts is not None:
        if facts.spec.name != spec.name:
            raise ValueError(f"the file holds {facts.spec.name}, not {spec.name}")
        return facts.spec, ()
    nearest = dataclasses.replace(spec, rounding="nearest")
    if source == "official" and not _fits(file, spec) and _fits(file, nearest):
        note = (
            f"this is {spec.name} of the official V2 code, which rounds widths to the nearest multiple of 8 where the "
            f"published one does not go down by more than 10 %: its model is that of "
            f"dataclasses.replace(VARIANTS[{spec.name!r}], rounding='nearest')"
        )
        return nearest, (note,)
    return spec, ()


def _fits(file: TensorFile, spec: ModelSpec) -> bool:
    layouts = LAYOUTS["official"]
    rows = tensor_rows(spec, 0)
    return all(file.shapes.get(row.names.get("official", "")) == layouts[row.kind].shape(row.shape) for row in rows)


def stored_classes(file: TensorFile, facts: Provenance | None, spec: ModelSpec, source: Convention) -> int | None:
    """Returns the outputs of a file's classifier: 0 where a file of ours says it has none, None where it is absent."""
    bias = tensor_rows(spec, 1)[-1].name(source)
    if bias in file.shapes and len(file.shapes[bias]) == 1:
        return file.shapes[bias][0]
    return 0 if facts is not None and facts.num_classes == 0 else None


def provenance_of(
    name: str, file: TensorFile, facts: Provenance | None, spec: ModelSpec, source: Convention, num_classes: int
) -> Provenance:
    """Returns the facts about the weights of the file called `name`: those it states, or those of its source."""
    said: dict[str, Any] = {"source": f"{source}:{name}", "source_sha256": file.sha256}
    if facts is not None:
        return dataclasses.replace(facts, origin=facts.origin or facts.source, **said)
    known = architecture(source, spec)
    # The official fine-tuning of 21k weights has a preprocessing of its own, and its archives say so in their names.
    finetuned = source == "official" and "ft1k" in name
    published = source in ("official", "timm", "torchvision")
    return Provenance(
        spec=spec,
        num_classes=num_classes,
        padding=known.padding,
        bn_epsilon=known.bn_epsilon,
        averaging=cast("Averaging", file.metadata.get("averaging", "unknown")),  # the readers' own word
        preprocessing="finetune" if finetuned else known.preprocessing,
        eval_size=known.eval_size,
        label_set=_LABEL_SETS.get(num_classes, "") if published else "",
        **said,
    )
