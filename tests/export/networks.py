"""Small networks to export, and their logits."""

import functools

import jax
import numpy as np
from golden import reference

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.weights import Weights
from effnetv2_jax.data.images.families import FAMILIES
from effnetv2_jax.model.provenance import Provenance

SIDE = 45  # its halves are odd, so that SAME pads one side more than the other
NAMES = tuple(f"class {index}" for index in range(10))
SPECS = {
    "V2": VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1),
    "V1": VARIANTS["efficientnet-b0"].scaled(width=0.25, depth=0.1),
    "article": VARIANTS["article-s"].scaled(width=0.25, depth=0.1),
}
PIXELS = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)


@functools.cache
def weights(name="V2", preprocessing="v2", classes=10) -> Weights:
    """Weights whose BatchNorm has statistics and factors that matter, and whose logits differ."""
    spec = SPECS[name]
    variables = reference.official_variables(spec, classes)
    names = NAMES if classes == 10 else ()
    provenance = Provenance(spec, classes, spec.padding, spec.bn_epsilon, "raw", preprocessing, SIDE, names)
    return Weights(variables, provenance, (), (), ())


@functools.cache
def expected(name="V2") -> np.ndarray:
    """The logits of `PIXELS`, computed by the network with its BatchNorm."""
    family, made = FAMILIES["v2"], weights(name)
    images = (PIXELS.astype(np.float32) - 128) / 128
    assert family.mean == family.std == (128.0, 128.0, 128.0)
    return np.asarray(jax.jit(made.model().apply)(made.variables, images))
