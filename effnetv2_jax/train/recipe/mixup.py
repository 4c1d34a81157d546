"""Mixup and CutMix of a batch, on the device.

Source: Zhang et al., mixup, arXiv 1710.09412; Yun et al., CutMix, arXiv 1905.04899; `mixing` of the official
datasets.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import Array

_QUANTILES = 4096


def mix(rng: Array, images: Array, targets: Array, mixup_alpha: float, cutmix_alpha: float) -> tuple[Array, Array]:
    """Mixes each image and its target with a partner's.

    An image's partner is the one at the mirrored place in the batch. If both alphas are above 0, the first half of the
    batch gets mixup and the second half CutMix, and partners come from the same half. An alpha of 0 turns its kind of
    mixing off.
    Deviation: a CutMix target is weighted by the area pasted into its own image. The official code takes the mean area.
    Deviation: the images of every data set are mixed. The official code does not mix those of TFDS.

    Args:
      rng: a key.
      images: `[N, H, W, C]`, float.
      targets: `[N, classes]`, float.
      mixup_alpha: α of Beta(α, α), the distribution of mixup's weights.
      cutmix_alpha: α of Beta(α, α), the distribution of the share of an image's area that CutMix keeps.

    Returns:
      Images and targets of the same shapes.
    """
    if not (mixup_alpha or cutmix_alpha):
        return images, targets
    batch, height, width = images.shape[:3]
    mixed_up = batch // 2 if mixup_alpha and cutmix_alpha else batch if mixup_alpha else 0
    mixup_rng, cutmix_rng = jax.random.split(rng)
    parts = []
    if mixed_up:
        parts.append(jnp.broadcast_to(_mixup_weights(mixup_rng, mixed_up, mixup_alpha), (mixed_up, height, width, 1)))
    if mixed_up < batch:
        parts.append(_cutmix_weights(cutmix_rng, batch - mixed_up, height, width, cutmix_alpha))
    weights = jnp.concatenate(parts)  # [N, H, W, 1], the image's own share of each pixel
    shares = weights.mean((1, 2))  # [N, 1]
    return (
        _blend(images, _mirrored(images, mixed_up), weights.astype(images.dtype)),
        _blend(targets, _mirrored(targets, mixed_up), shares),
    )


def _mirrored(x: Array, first: int) -> Array:
    """Returns `x` `[N, …]` with its `first` rows in reverse order, followed by the other rows in reverse order.

    Reversing moves whole shards between devices. Indexing would copy the whole batch to every device.
    """
    if 2 * first == x.shape[0]:
        return jnp.flip(x.reshape(2, first, *x.shape[1:]), 1).reshape(x.shape)
    return jnp.concatenate([jnp.flip(x[:first], 0), jnp.flip(x[first:], 0)])


def _blend(own: Array, other: Array, share: Array) -> Array:
    return own * share + other * (1 - share)


def beta(rng: Array, alpha: float, shape: tuple[int, ...]) -> Array:
    """Draws float32 from Beta(α, α), for a constant α > 0, by interpolating a table of its quantiles.

    `jax.random.beta` draws by rejection, in a loop that takes as long to compile as a small network.
    """
    table = jnp.asarray(scipy.special.betaincinv(alpha, alpha, np.linspace(0.0, 1.0, _QUANTILES + 1)), jnp.float32)
    position = jax.random.uniform(rng, shape) * _QUANTILES
    below = position.astype(jnp.int32)
    return table[below] + (position - below) * (table[below + 1] - table[below])


def _mixup_weights(rng: Array, batch: int, alpha: float) -> Array:
    weights = beta(rng, alpha, (batch, 1, 1, 1))
    return jnp.maximum(weights, 1.0 - weights)


def _cutmix_weights(rng: Array, batch: int, height: int, width: int, alpha: float) -> Array:
    """Returns `[N, H, W, 1]`: 0 inside a box in each image and 1 outside.

    The box's share of the image, before it is clipped at the edges, is 1 minus a draw from Beta(α, α).
    """
    area_rng, row_rng, column_rng = jax.random.split(rng, 3)
    ratio = jnp.sqrt(1.0 - beta(area_rng, alpha, (batch,)))
    rows = _inside(jax.random.randint(row_rng, (batch,), 0, height), ratio, height)
    columns = _inside(jax.random.randint(column_rng, (batch,), 0, width), ratio, width)
    return 1.0 - (rows[:, :, None] & columns[:, None, :])[..., None].astype(jnp.float32)


def _inside(centre: Array, ratio: Array, size: int) -> Array:
    """Returns bool `[N, size]`: whether each position lies in the segment of ratio × size pixels around the centre."""
    half = (ratio * size).astype(jnp.int32) // 2
    position = jnp.arange(size)[None, :]
    return (position >= (centre - half)[:, None]) & (position < (centre + half)[:, None])
