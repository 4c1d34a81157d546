"""How the images of an evaluation are seen: their size, their crop, their preprocessing, and mirrored or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.model.provenance import Provenance

Crop = Literal["centre", "whole"]


@dataclasses.dataclass(frozen=True)
class View:
    """How a network sees an image.

    Attributes:
      image_size: side of the images in pixels.
      crop: `centre` for the central square, `whole` for the whole image squashed to a square.
      preprocessing: name of the preprocessing family.
      flip: whether the logits are the mean of those of the image and of its mirror image.
    """

    image_size: int
    crop: Crop
    preprocessing: str
    flip: bool = False


@dataclasses.dataclass(frozen=True)
class ViewChoice:
    """The views that a user asks for; what is left out follows from the weights.

    Attributes:
      sizes: sides of the images in pixels; () for the evaluation size of the weights.
      crops: crops; () for that of the weights.
      preprocessing: name of the preprocessing family; "" for that of the weights.
      flip: whether to add the mirror images.
    """

    sizes: tuple[int, ...] = ()
    crops: tuple[Crop, ...] = ()
    preprocessing: str = ""
    flip: bool = False

    def of(self, provenance: Provenance) -> list[View]:
        """Returns the views for weights: each size with each crop.

        Raises:
          ValueError: if a size is too small for the network, or the preprocessing is unknown.
        """
        family = preprocessing_family(self.preprocessing or provenance.preprocessing or provenance.spec.preprocessing)
        smallest = provenance.spec.minimum_image_size
        views = []
        for size in self.sizes or (provenance.eval_size or provenance.spec.eval_size,):
            if size < smallest:
                raise ValueError(f"{provenance.spec.name} needs images of at least {smallest} px, got {size}")
            own: Crop = "centre" if family.crops_in_evaluation(size, provenance.eval_crop) else "whole"
            views += [View(size, crop, family.name, self.flip) for crop in self.crops or (own,)]
        return views


def parse_sizes(text: str) -> tuple[int, ...]:
    """Returns the sizes of `FIRST:LAST:STEP`, which include the last one, or of a list such as `224,288`.

    Raises:
      ValueError: for any other text.
    """
    try:
        if ":" not in text:
            sizes: Sequence[int] = [int(part) for part in text.split(",")]
        else:
            first, last, step = (int(part) for part in text.split(":"))
            sizes = range(first, last + 1, step)
        if not sizes or min(sizes) < 1:
            raise ValueError
    except ValueError:
        raise ValueError(f"{text!r} is neither FIRST:LAST:STEP, as in 224:480:32, nor a list, as in 224,288") from None
    return tuple(sizes)
