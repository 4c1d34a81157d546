"""The provenance of weights: their architecture, their classes and their preprocessing, as a file records them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from effnetv2_jax.model.lax_convolution import Padding
from effnetv2_jax.model.spec_fields import MAX_SIDE, check_range, spec_from_fields
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.untrusted_json import parse_json

Averaging = Literal["averaged", "raw", "unknown"]
EvalCrop = Literal["", "centre", "whole"]

MAX_CLASSES = 1 << 20
"""ImageNet-21k has 21,843 classes."""

CARD = "model.json"
"""The file in a run folder that records the provenance of its weights, with the keys of `Provenance.to_metadata`."""

FRAMEWORK_KEY = "framework"
"""The header's key for the framework that a file's weights are made for."""


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What is known of weights: their architecture, training, classes and preprocessing.

    Attributes:
      spec: the architecture; its name is the variant.
      num_classes: outputs of the classifier; 0 without one.
      padding: the padding that the weights were trained with.
      bn_epsilon: the BatchNorm epsilon that the weights were trained with.
      averaging: `averaged` over the training steps, `raw` as trained, or `unknown`.
      preprocessing: name of their preprocessing family in `data.images.families`; "" if unknown.
      eval_size: side in pixels of the images that they are evaluated on.
      class_names: the name of each class, if known.
      label_set: the data set that defines the classes, such as `imagenet-1k`, if known.
      read_from: framework and name of the file that they were read from, such as `timm:model.safetensors`.
      read_from_sha256: hexadecimal digest of that file.
      origin: framework and name of the file that the weights were first converted from, if known.
      exact: whether the weights give the same logits in the framework that the file was written for; None if unknown.
      eval_crop: `centre` or `whole`, the crop of their evaluation images; "" follows the family's rule.
      started_from: what training started from, if known: the name of published weights, their address on a hub, or the
        name of a file.
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
    eval_crop: EvalCrop = ""
    started_from: str = ""

    @property
    def model_fields(self) -> dict[str, Any]:
        """The arguments of `create_model` that make the network that the weights were trained in, besides its spec."""
        return {"padding": self.padding, "bn_epsilon": self.bn_epsilon}

    def to_metadata(self) -> dict[str, str]:
        """Returns the provenance as strings by key, for a file's header. Unknown values are left out."""
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
      ValueError: if the header is damaged: a value has the wrong type or is out of range, or the variant is unknown.
    """
    if "variant" not in metadata or "num_classes" not in metadata:
        return None
    try:
        return _parsed(metadata)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the provenance that the file records is damaged: {error}") from error


def _parsed(metadata: Mapping[str, str]) -> Provenance:
    if "spec" in metadata:
        spec = spec_from_fields(parse_json(metadata["spec"]))
    elif metadata["variant"] in VARIANTS:
        spec = VARIANTS[metadata["variant"]]
    else:
        raise ValueError(f"unknown variant {metadata['variant']!r}")
    texts = (
        "averaging",
        "preprocessing",
        "eval_crop",
        "label_set",
        "read_from",
        "read_from_sha256",
        "origin",
        "started_from",
    )
    values: dict[str, Any] = {key: metadata[key] for key in texts if key in metadata}
    padding = metadata.get("padding", spec.padding)
    for key, value, allowed in (
        ("averaging", values.get("averaging", "unknown"), Averaging),
        ("eval_crop", values.get("eval_crop", ""), EvalCrop),
        ("padding", padding, Padding),
    ):
        if value not in get_args(allowed):
            raise ValueError(f"{key} is {value!r}")
    eval_size = int(metadata.get("eval_size", spec.eval_size))
    if not 0 <= eval_size <= MAX_SIDE:
        raise ValueError(f"eval_size is {eval_size}")
    num_classes = int(metadata["num_classes"])
    if not 0 <= num_classes <= MAX_CLASSES:
        raise ValueError(f"num_classes is {num_classes}")
    names = parse_json(metadata.get("class_names", "[]"))
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError("class_names is not a list of strings")
    if len(names) not in (0, num_classes):
        raise ValueError(f"class_names has {len(names)} names for {num_classes} classes")
    bn_epsilon = float(metadata.get("bn_epsilon", spec.bn_epsilon))
    check_range("bn_epsilon", bn_epsilon)
    return Provenance(
        spec=spec,
        num_classes=num_classes,
        padding=cast("Padding", padding),
        bn_epsilon=bn_epsilon,
        eval_size=eval_size,
        class_names=tuple(names),
        exact={"true": True, "false": False}.get(metadata.get("exact", "")),
        **values,
    )
