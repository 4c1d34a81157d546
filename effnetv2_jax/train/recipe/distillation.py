"""Distillation: a run learns from the outputs of a trained network, its teacher, besides the labels."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from effnetv2_jax.data.images.families import PreprocessingFamily
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.variables import Variables


@dataclasses.dataclass
class DistillationConfig:
    """The teacher, if there is one.

    Attributes:
      teacher: a file or folder with the weights of the teacher, a path or `gs://…`; "" for none. It must have the
        classes of the data set.
      framework: the framework of those weights; "" to find it from the file.
      weight: share of the loss that compares with the teacher's outputs; the labels have the rest.
      temperature: number that both networks' logits are divided by before they are compared; more than 1 gives the
        classes that the teacher thinks less likely more importance.
    """

    teacher: str = ""
    framework: str = ""
    weight: float = 0.5
    temperature: float = 1.0


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained network to learn from.

    Attributes:
      model: the network.
      family: how its images are normalised.
      variables: its variables, float32.
    """

    model: EfficientNetV2
    family: PreprocessingFamily
    variables: Variables


@dataclasses.dataclass(frozen=True)
class Distillation:
    """How a step learns from a teacher.

    Attributes:
      model: the teacher's network.
      family: how the teacher's images are normalised.
      weight: share of the teacher in the loss.
      temperature: see `DistillationConfig`.
    """

    model: EfficientNetV2
    family: PreprocessingFamily
    weight: float
    temperature: float

    def loss(self, logits: Array, images: Array, family: PreprocessingFamily, variables: Variables) -> Array:
        """Returns the distance of each image's output from the teacher's, float32 `[N]`.

        It is T² times the Kullback–Leibler divergence of the softmax outputs at the temperature T.
        Source: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, section 2.

        Args:
          logits: `[N, classes]`, of the network that learns.
          images: `[N, H, W, 3]`, normalised for the network that learns.
          family: how they are normalised.
          variables: the teacher's variables.
        """
        seen = renormalized(images, family, self.family)
        taught: Any = jax.lax.stop_gradient(self.model.apply(variables, seen, train=False))
        mine, taught = (jax.nn.log_softmax(each / self.temperature) for each in (logits, taught))
        return self.temperature**2 * optax.losses.kl_divergence_with_log_targets(mine, taught)


def make_distillation(config: DistillationConfig, teacher: Teacher | None, num_classes: int) -> Distillation | None:
    """Returns how a run learns from its teacher, or None if it has none.

    Raises:
      ValueError: for a number out of its range, or a teacher of other classes.
    """
    if not 0.0 < config.weight <= 1.0:
        raise ValueError(f"distillation.weight must lie in (0, 1], got {config.weight}")
    if not 0.0 < config.temperature < math.inf:
        raise ValueError(f"distillation.temperature must be finite and above 0, got {config.temperature}")
    if teacher is None:
        return None
    if teacher.model.num_classes != num_classes:
        raise ValueError(
            f"the teacher {config.teacher} has {teacher.model.num_classes:,} classes, and the data has {num_classes:,}"
        )
    return Distillation(teacher.model, teacher.family, config.weight, config.temperature)


def renormalized(images: Array, now: PreprocessingFamily, wanted: PreprocessingFamily) -> Array:
    """Returns images `[N, H, W, 3]` that are normalised for one family as they would be for another."""
    if (now.mean, now.std) == (wanted.mean, wanted.std):
        return images
    mean, std, wanted_mean, wanted_std = (
        jnp.asarray(values, jnp.float32)[None, None, None, :] for values in (now.mean, now.std, wanted.mean, wanted.std)
    )
    return (images * std + (mean - wanted_mean)) / wanted_std
