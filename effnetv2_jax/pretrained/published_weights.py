"""A row of the table of published weights: where a file of weights lies, and what its publisher says of it."""

from __future__ import annotations

import dataclasses
from pathlib import PurePosixPath
from typing import Literal

from effnetv2_jax.pretrained.hub_address import hub_address, in_hub

APACHE_2 = "apache-2.0"

IMAGENET_1K, IMAGENET_21K = 1000, 21843

Checked = Literal["read in its source", "follows a pattern"]


@dataclasses.dataclass(frozen=True)
class PublishedWeights:
    """Weights that someone has published.

    Attributes:
      name: variant and training, such as `efficientnetv2-s.in21k_ft_in1k`. The weights of several frameworks may share
        a name.
      framework: the framework that the file is made for.
      address: where the file lies: `https://…`, or `hf://OWNER/REPOSITORY` for a folder with `model.safetensors`.
      eval_size: side in pixels of the images on which the publisher evaluates.
      preprocessing: the preprocessing family, which gives mean and standard deviation.
      crop: the part of the image that the publisher evaluates, as a share of its shorter side; "squashed" is the whole
        image, resized to a square.
      num_classes: outputs of the classifier; 0 without one.
      top1: published accuracy on the validation images of ImageNet-1k, in per cent; None if none is known.
      top1_citation: the publication of that accuracy.
      licence: identifier of the licence; "" if none is known.
      checksum: `sha256:` with the first digits of the digest, or `md5:` with all; "" if none is published.
      megabytes: size of the file in 10^6 bytes, as published; None if it is not known.
      address_is: how the address is known: it was read in the publisher's code or documentation, or it follows the
        pattern of the others.
    """

    name: str
    framework: str
    address: str
    eval_size: int
    preprocessing: str
    crop: str
    num_classes: int = IMAGENET_1K
    top1: float | None = None
    top1_citation: str = ""
    licence: str = ""
    checksum: str = ""
    megabytes: float | None = None
    address_is: Checked = "read in its source"

    @property
    def variant(self) -> str:
        """The variant of the network."""
        return self.name.partition(".")[0]

    @property
    def training(self) -> str:
        """The part of the name that says what the weights were trained on, such as `in21k_ft_in1k`."""
        return self.name.partition(".")[2]

    @property
    def file(self) -> str:
        """The name of the file, or owner and name of the repository that holds it."""
        return hub_address(self.address).repository if in_hub(self.address) else PurePosixPath(self.address).name
