"""Compares an exported program with the network itself."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax import Array
from PIL import Image

from effnetv2_jax.convert.weights import Weights
from effnetv2_jax.export.formats import ExportDtype
from effnetv2_jax.export.program import Program
from effnetv2_jax.export.served_network import ServedNetwork, served_network
from effnetv2_jax.predict.images import evaluation_image, read_image

BOUNDS = {"float32": 1e-4, "bfloat16": 0.05}
"""Dtype → the largest allowed difference of the logits, relative to the largest logit.

Runtimes order the float32 operations of a convolution in different ways, which gives about 1e-6. bfloat16 has 8
significant bits; rounding the activations of all layers to them gives about 0.01.
"""

PROBABILITY_BOUND = 1e-3
"""The largest allowed difference of the probabilities of a JPEG, whose pixels two decoders may round differently."""

LEAST_AGREEMENT = 0.9
"""The least share of the calibration images whose most probable class an 8-bit program must keep."""

_BATCHES = (2, 1)  # two sizes, because an exported program takes batches of any size
_AT_ONCE = 8
_AGAINST = "this project's network in float32 with its BatchNorm"


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison of an exported program with the network.

    Attributes:
      measure: `difference`, which must not exceed the bound, or `agreement`, which must reach it.
      value: what was measured.
      bound: the bound.
      text: what was compared with what, and the value, for people to read.
    """

    measure: Literal["difference", "agreement"]
    value: float
    bound: float
    text: str

    @property
    def passed(self) -> bool:
        """Whether the value is within the bound; False for NaN."""
        return self.value <= self.bound if self.measure == "difference" else self.value >= self.bound

    def __str__(self) -> str:
        limit = "at most" if self.measure == "difference" else "at least"
        return f"{self.text} ({limit} {self.bound:g}): {'ok' if self.passed else 'TOO FAR'}"


def compare_logits(program: Program, weights: Weights, network: ServedNetwork, dtype: ExportDtype) -> Check:
    """Compares the logits of fixed random images, in batches of two sizes."""
    rng, shape = np.random.default_rng(0), network.image_shape()
    pixels = rng.integers(0, 256, (sum(_BATCHES), *shape)).astype(np.uint8)
    expected = network_logits(weights, pixels)
    images = pixels if network.normalises else network.family.normalised(pixels)
    got = np.concatenate([program.run(part) for part in np.split(images, np.cumsum(_BATCHES)[:-1])])
    difference, largest = float(np.abs(got - expected).max()), float(np.abs(expected).max())
    relative = difference / largest if largest else difference
    text = (
        f"largest difference of logits in {program.runtime}: {difference:.3g}, or {relative:.2g} of the largest logit, "
        f"against {_AGAINST}"
    )
    return Check("difference", relative, BOUNDS[dtype], text)


def compare_classes(program: Program, weights: Weights, images: np.ndarray, least_agreement: float) -> Check:
    """Compares the most probable class of each image, uint8 `[M, S, S, 3]`."""
    expected, got = network_logits(weights, images), _in_batches(program.run, images)
    agreement = float(np.mean(expected.argmax(-1) == got.argmax(-1)))
    relative = float(np.abs(got - expected).max() / np.abs(expected).max())
    text = (
        f"{agreement:.1%} of {len(images)} calibration images keep their most probable class in {program.runtime}, "
        f"against {_AGAINST}; the logits differ by up to {relative:.2g} of the largest"
    )
    return Check("agreement", agreement, least_agreement, text)


def compare_served(
    serve: Callable[[bytes], tuple[list[str], np.ndarray]], weights: Weights, network: ServedNetwork, scratch: Path
) -> Check:
    """Compares the probabilities that a signature for encoded images gives for a JPEG with those of `predict`.

    Args:
      serve: an encoded image → its most probable classes and their probabilities.
      weights: the weights.
      network: the network that was exported.
      scratch: a path where a file can be made; it is removed.
    """
    encoded = _jpeg(network.image_shape()[0])
    provenance = network.provenance
    scratch.write_bytes(encoded)
    try:
        pixels = read_image(scratch)
    finally:
        scratch.unlink()
    image = evaluation_image(pixels, network.family, provenance.eval_size, provenance.eval_crop)
    expected = np.asarray(jax.nn.softmax(_compiled(weights.model())(weights.variables, image[None])))[0]
    names = network.class_names() or tuple(map(str, range(len(expected))))
    # Names may occur twice, as two of ImageNet's do, and classes that are equally probable may change places.
    difference = max(
        min(abs(float(probability) - expected[index]) for index in range(len(names)) if names[index] == name)
        for name, probability in zip(*serve(encoded), strict=True)
    )
    text = f"largest difference of probabilities for a JPEG: {difference:.3g}, against `effnetv2 predict`"
    return Check("difference", difference, PROBABILITY_BOUND, text)


def network_logits(weights: Weights, pixels: np.ndarray) -> np.ndarray:
    """Returns the logits of the network itself, in float32 with its BatchNorm, for uint8 images `[N, S, S, 3]`."""
    network = served_network(weights, fold=False)
    images = network.family.normalised(pixels)
    return _in_batches(lambda batch: np.asarray(_compiled(network.model)(weights.variables, batch)), images)


def _in_batches(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Runs images in batches of one size, so that one program is enough; the last batch is filled up."""
    size = min(_AT_ONCE, len(images))
    filled = np.concatenate([images, np.repeat(images[:1], -len(images) % size, 0)])
    return np.concatenate([run(part) for part in np.split(filled, len(filled) // size)])[: len(images)]


@functools.lru_cache(maxsize=2)
def _compiled(model: Any) -> Callable[[Any, np.ndarray], Array]:
    return jax.jit(functools.partial(model.apply, train=False))


def _jpeg(side: int) -> bytes:
    """Returns a JPEG of smooth random colours that is larger than the network's images, and not square."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(coarse).resize((side + 90, side + 41), Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=90)
    return encoded.getvalue()
