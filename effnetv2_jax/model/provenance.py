"""What weights are, where they come from, and how to use them: the facts that travel with them in a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

from effnetv2_jax.model.convolution import Padding
from effnetv2_jax.model.specs import VARIANTS, ModelSpec, RowSpec

Averaging = Literal["averaged", "raw", "unknown"]

# A file's header may come from anyone: no network of it is built beyond these.
_MAX_BLOCKS = 1000
_MAX_SIDE = 8192


CARD = "model.json"
"""The file in a run's folder that says what its weights are: the keys of `Provenance.to_metadata`."""

CONVENTION = "convention"
"""The header's key for whose names and layouts a file has."""


@dataclasses.dataclass(frozen=True)
class Provenance:
    """The facts about weights.

    Attributes:
      spec: the architecture; its name is the variant's.
      num_classes: outputs of the classifier; 0 without one.
      padding: the padding that the weights were trained with.
      bn_epsilon: BatchNorm's epsilon that they were trained with.
      averaging: whether they are moving averages over training steps, or the last step's.
      preprocessing: the family of `data.families` that their images go through.
      eval_size: side in pixels at which they are evaluated.
      class_names: what each output means, where known.
      label_set: the data set that the outputs count, such as `imagenet-1k`, where known.
      source: convention and file name that they were read from.
      source_sha256: of that file.
      origin: the source of the source, where it says.
      exact: whether the weights mean the same logits in the framework that the file is for; None if unsaid.
      eval_crop: "centre" or "whole" where evaluation does not follow the family's rule.
    """

    spec: ModelSpec
    num_classes: int
    padding: Padding
    bn_epsilon: float
    averaging: Averaging = "unknown"
    preprocessing: str = ""
    eval_size: int = 0
    class_names: tuple[str, ...] = ()
    label_set: str = ""
    source: str = ""
    source_sha256: str = ""
    origin: str = ""
    exact: bool | None = None
    eval_crop: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        """The arguments of `create_model` under which the weights mean what they meant at their source."""
        return {"padding": self.padding, "bn_epsilon": self.bn_epsilon}

    def to_metadata(self) -> dict[str, str]:
        """Returns the facts as the strings of a file's header, without the unknown ones."""
        custom = VARIANTS.get(self.spec.name) != self.spec
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "spec"}
        facts = {"variant": self.spec.name} | {key: fact for key, fact in facts.items() if fact not in ("", (), None)}
        if custom:
            facts["spec"] = dataclasses.asdict(self.spec)
        return {
            key: fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False) for key, fact in facts.items()
        }


def provenance_from_metadata(metadata: Mapping[str, str]) -> Provenance | None:
    """Returns the facts that a file's header holds; None if it is none of ours.

    Raises:
      ValueError: if the header is damaged: a value of the wrong type, or an unknown variant.
    """
    if "variant" not in metadata or "num_classes" not in metadata:
        return None
    try:
        return _parsed(metadata)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the file's facts about its weights are damaged: {error}") from error


def _parsed(metadata: Mapping[str, str]) -> Provenance:
    if "spec" in metadata:
        spec = _spec(json.loads(metadata["spec"]))
    elif metadata["variant"] in VARIANTS:
        spec = VARIANTS[metadata["variant"]]
    else:
        raise ValueError(f"unknown variant {metadata['variant']!r}")
    texts = ("averaging", "preprocessing", "eval_crop", "label_set", "source", "source_sha256", "origin")
    facts: dict[str, Any] = {key: metadata[key] for key in texts if key in metadata}
    if facts.get("averaging", "unknown") not in get_args(Averaging):
        raise ValueError(f"averaging is {facts['averaging']!r}")
    padding = metadata.get("padding", spec.padding)
    if padding not in get_args(Padding):
        raise ValueError(f"padding is {padding!r}")
    eval_size = int(metadata.get("eval_size", spec.eval_size))
    if not 0 <= eval_size <= _MAX_SIDE:
        raise ValueError(f"eval_size is {eval_size}")
    names = json.loads(metadata.get("class_names", "[]"))
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("class_names is no list of strings")
    return Provenance(
        spec=spec,
        num_classes=int(metadata["num_classes"]),
        padding=cast("Padding", padding),
        bn_epsilon=float(metadata.get("bn_epsilon", spec.bn_epsilon)),
        eval_size=eval_size,
        class_names=tuple(names),
        exact={"true": True, "false": False}.get(metadata.get("exact", "")),
        **facts,
    )


def _spec(fields: dict[str, Any]) -> ModelSpec:
    rows = tuple(RowSpec(**row) for row in fields.pop("rows"))
    spec = ModelSpec(rows=rows, **fields)
    if sum(math.ceil(spec.depth * row.repeats) for row in rows) > _MAX_BLOCKS:
        raise ValueError(f"{spec.name} has more than {_MAX_BLOCKS} blocks")
    list(spec.blocks())  # fields of a wrong type show here
    return spec


def file_sha256(*paths: Path) -> str:
    """Returns the hexadecimal SHA-256 of files one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
