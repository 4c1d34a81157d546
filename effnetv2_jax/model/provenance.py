"""The provenance of weights: their architecture, their classes and their preprocessing, as a file records them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from effnetv2_jax.model.lax_convolution import Padding
from effnetv2_jax.model.specs import ModelSpec, RowSpec
from effnetv2_jax.model.variants import VARIANTS

Averaging = Literal["averaged", "raw", "unknown"]

# A file may come from anyone, so larger networks than these are not built from its header.
_MAX_BLOCKS = 1000
_MAX_SIDE = 8192


CARD = "model.json"
"""The file in a run's folder that records the provenance of its weights, with the keys of `Provenance.to_metadata`."""

FRAMEWORK_KEY = "framework"
"""The header's key for the framework that a file's names and layouts follow."""


@dataclasses.dataclass(frozen=True)
class Provenance:
    """The architecture, the training and the meaning of weights, as far as they are known.

    Attributes:
      spec: the architecture; its name is the variant.
      num_classes: outputs of the classifier; 0 without one.
      padding: the padding that the weights were trained with.
      bn_epsilon: the BatchNorm epsilon that the weights were trained with.
      averaging: whether they are moving averages over the training steps or the values of one step.
      preprocessing: name of their preprocessing family in `data.families`.
      eval_size: image size in pixels at which they are evaluated.
      class_names: the name of each class, if known.
      label_set: the data set that defines the classes, such as `imagenet-1k`, if known.
      read_from: framework and name of the file that they were read from, such as `timm:model.safetensors`.
      read_from_sha256: hexadecimal digest of that file.
      origin: framework and name of the file that the weights were first converted from, if known.
      exact: whether the weights give the same logits in the framework that the file was written for; None if unknown.
      eval_crop: `centre` or `whole` if their evaluation does not follow the family's rule.
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
    read_from: str = ""
    read_from_sha256: str = ""
    origin: str = ""
    exact: bool | None = None
    eval_crop: str = ""

    @property
    def model_fields(self) -> dict[str, Any]:
        """The arguments with which `create_model` makes the network that the weights were trained in."""
        return {"padding": self.padding, "bn_epsilon": self.bn_epsilon}

    def to_metadata(self) -> dict[str, str]:
        """Returns the strings that a file's header records, without those of unknown values."""
        custom = VARIANTS.get(self.spec.name) != self.spec
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "spec"}
        values = {key: value for key, value in values.items() if value not in ("", (), None)}
        values = {"variant": self.spec.name} | values | ({"spec": dataclasses.asdict(self.spec)} if custom else {})
        return {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in values.items()
        }


def provenance_from_metadata(metadata: Mapping[str, str]) -> Provenance | None:
    """Returns the provenance that a file's header records; None if this project did not write the file.

    Raises:
      ValueError: if the header is damaged: a value has the wrong type, or the variant is unknown.
    """
    if "variant" not in metadata or "num_classes" not in metadata:
        return None
    try:
        return _parsed(metadata)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the provenance that the file records is damaged: {error}") from error


def _parsed(metadata: Mapping[str, str]) -> Provenance:
    if "spec" in metadata:
        spec = _spec(json.loads(metadata["spec"]))
    elif metadata["variant"] in VARIANTS:
        spec = VARIANTS[metadata["variant"]]
    else:
        raise ValueError(f"unknown variant {metadata['variant']!r}")
    texts = ("averaging", "preprocessing", "eval_crop", "label_set", "read_from", "read_from_sha256", "origin")
    values: dict[str, Any] = {key: metadata[key] for key in texts if key in metadata}
    if values.get("averaging", "unknown") not in get_args(Averaging):
        raise ValueError(f"averaging is {values['averaging']!r}")
    padding = metadata.get("padding", spec.padding)
    if padding not in get_args(Padding):
        raise ValueError(f"padding is {padding!r}")
    eval_size = int(metadata.get("eval_size", spec.eval_size))
    if not 0 <= eval_size <= _MAX_SIDE:
        raise ValueError(f"eval_size is {eval_size}")
    names = json.loads(metadata.get("class_names", "[]"))
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("class_names is not a list of strings")
    return Provenance(
        spec=spec,
        num_classes=int(metadata["num_classes"]),
        padding=cast("Padding", padding),
        bn_epsilon=float(metadata.get("bn_epsilon", spec.bn_epsilon)),
        eval_size=eval_size,
        class_names=tuple(names),
        exact={"true": True, "false": False}.get(metadata.get("exact", "")),
        **values,
    )


def _spec(fields: dict[str, Any]) -> ModelSpec:
    rows = tuple(RowSpec(**row) for row in fields.pop("rows"))
    spec = ModelSpec(rows=rows, **fields)
    if sum(math.ceil(spec.depth * row.repeats) for row in rows) > _MAX_BLOCKS:
        raise ValueError(f"{spec.name} has more than {_MAX_BLOCKS} blocks")
    list(spec.blocks())  # raises for fields of a wrong type
    return spec
