"""What a Hugging Face folder says of the weights in it."""

from __future__ import annotations

import dataclasses

from effnetv2_jax.model.provenance import EvalCrop


@dataclasses.dataclass(frozen=True)
class FolderDescription:
    """What the `config.json` beside weights says of them.

    Attributes:
      variant: the variant of their network.
      preprocessing: the preprocessing family that comes closest.
      eval_size: side in pixels of the images that they are evaluated on.
      eval_crop: `centre` or `whole`.
      class_names: the name of each class; () if they are not known.
    """

    variant: str
    preprocessing: str
    eval_size: int
    eval_crop: EvalCrop
    class_names: tuple[str, ...]
