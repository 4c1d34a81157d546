"""The state of a run, which is what a checkpoint holds."""

from __future__ import annotations

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jax import Array

from effnetv2_jax.model.variables import Variables


class TrainState(flax.struct.PyTreeNode):
    """Everything that training changes.

    Attributes:
      step: number of steps done, int32 scalar.
      params: the model's parameters.
      batch_stats: BatchNorm's statistics.
      opt_state: the optimiser's state.
      ema_params: exponential moving average of the parameters; None if the run keeps no averages.
      ema_batch_stats: exponential moving average of the statistics; None if the run keeps no averages.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any
    ema_batch_stats: Any

    @property
    def variables(self) -> Variables:
        """The raw variables of the model."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def weights(self) -> dict[str, Variables]:
        """The `raw` and the `averaged` variables; both are the same object if the run keeps no averages."""
        raw = self.variables
        averaged = {"params": self.ema_params, "batch_stats": self.ema_batch_stats}
        return {"raw": raw, "averaged": raw if self.ema_params is None else averaged}


def create_state(variables: Variables, optimizer: optax.GradientTransformation, *, averaged: bool) -> TrainState:
    """Returns the state before step 0; with `averaged`, the averages start as copies of the variables."""
    variables = jax.tree.map(jnp.asarray, variables)
    copies = jax.tree.map(jnp.array, variables) if averaged else {"params": None, "batch_stats": None}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
        ema_params=copies["params"],
        ema_batch_stats=copies["batch_stats"],
    )


def ema_decay(maximum: float, updates: Array) -> Array:
    """Returns the decay of the moving averages after `updates` steps; it rises from 2/11 to the maximum.

    Source: tf.train.ExponentialMovingAverage with num_updates.
    """
    count = updates.astype(jnp.float32)
    return jnp.minimum(jnp.float32(maximum), (1.0 + count) / (10.0 + count))


def update_averages(averages: Any, values: Any, decay: Array) -> Any:
    """Moves the averages towards the values by 1 − decay."""
    return jax.tree.map(lambda average, value: average - (1.0 - decay) * (average - value), averages, values)
