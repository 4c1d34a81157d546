"""The networks that a search chooses from: rows of a base, each with its choices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from effnetv2_jax.model.scaling import layers_of
from effnetv2_jax.model.specs import ModelSpec

Params = Mapping[str, Any]
"""Name of a choice, as in `row_2.kernel_size` → the value that was chosen."""

# Field of a row → its choices in every row. Skipping and pooling are not among them.
# Source: Tan & Le, EfficientNetV2, arXiv 2104.00298, section 3.3; the ratio of the squeeze is that of EfficientNet.
_CHOICES: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "kind": ("mbconv", "fused"),
        "kernel_size": (3, 5),
        "expand_ratio": (1, 4, 6),
        "se_ratio": (0.0, 0.25),
    }
)

# Layers of a row, relative to those of the base. The paper does not give its range.
_MORE_LAYERS = (-1, 0, 1, 2)


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """The rows of a base with its channels and strides, and any kind, kernel, expansion, squeeze and number of layers.

    Attributes:
      base: the network whose channels, strides, image sizes and dropout the others have; the paper takes those of
        EfficientNet.
    """

    base: ModelSpec

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Returns the choices by name, in the order of the rows."""
        found: dict[str, tuple[Any, ...]] = {}
        for number, layers in enumerate(layers_of(self.base)):
            possible = tuple(layers + more for more in _MORE_LAYERS if layers + more > 0)
            for field, values in {**_CHOICES, "repeats": possible}.items():
                found[f"row_{number}.{field}"] = values
        return found

    @property
    def size(self) -> int:
        """The number of networks."""
        return math.prod(len(values) for values in self.choices().values())

    def spec(self, params: Params, name: str) -> ModelSpec:
        """Returns the network that is described by one value for each choice.

        Raises:
          ValueError: if a choice is missing or unknown, or has another value than those allowed.
        """
        choices = self.choices()
        if params.keys() != choices.keys():
            raise ValueError(f"a network needs the choices {', '.join(choices)}; got {', '.join(params)}")
        for key, value in params.items():
            if value not in choices[key]:
                raise ValueError(f"{key} must be one of {', '.join(map(str, choices[key]))}, got {value!r}")
        base = self.base
        rows = tuple(
            dataclasses.replace(
                row,
                features=base.features(row.features),
                **{field: params[f"row_{number}.{field}"] for field in (*_CHOICES, "repeats")},
            )
            for number, row in enumerate(base.rows)
        )
        return dataclasses.replace(
            base,
            name=name,
            rows=rows,
            stem_features=base.stem.features,
            head_features=base.head_width,
            width=1.0,
            depth=1.0,
            citation="found by effnetv2 search",
            top1=None,
            top1_21k=None,
        )
