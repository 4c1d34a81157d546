"""The learning rate at each step."""

import dataclasses
import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Literal

import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass
class ScheduleConfig:
    """The learning rate over a run.

    Attributes:
      kind: how the rate changes after the warm-up.
      base_rate: peak of the rate for a batch of `reference_batch` images; it grows in proportion to the batch size.
      reference_batch: batch size that `base_rate` is given for; 0 makes `base_rate` the peak for every batch size.
      warmup_epochs: epochs in which the rate rises linearly from 0 to the peak.
      warmup_steps: the same in steps; one of the two must be 0.
      decay_rate: factor by which the exponential schedule multiplies the rate.
      decay_epochs: epochs from one such multiplication to the next.
      end_rate: lowest rate after the warm-up.
    """

    kind: Literal["exponential", "cosine", "linear", "constant"] = "exponential"
    base_rate: float = 0.016
    reference_batch: int = 256
    warmup_epochs: float = 5.0
    warmup_steps: int = 0
    decay_rate: float = 0.97
    decay_epochs: float = 2.4
    end_rate: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Run:
    """The inputs of a schedule: its configuration, the peak rate, and durations in steps."""

    config: ScheduleConfig
    peak: float
    steps_per_epoch: float
    total_steps: int


def _exponential(run: _Run, step: Array) -> Array:
    decays = jnp.floor(step / jnp.float32(run.config.decay_epochs * run.steps_per_epoch))
    return run.peak * jnp.float32(run.config.decay_rate) ** decays


def _cosine(run: _Run, step: Array) -> Array:
    return 0.5 * run.peak * (1.0 + jnp.cos(jnp.pi * step / run.total_steps))


def _linear(run: _Run, step: Array) -> Array:
    return run.peak * (1.0 - step / run.total_steps)


def _constant(run: _Run, step: Array) -> Array:
    return jnp.full_like(step, run.peak)


SCHEDULES = MappingProxyType({"exponential": _exponential, "cosine": _cosine, "linear": _linear, "constant": _constant})

Schedule = Callable[[Array | int], Array]


def make_schedule(config: ScheduleConfig, *, batch_size: int, steps_per_epoch: float, total_steps: int) -> Schedule:
    """Returns step → learning rate, float32.

    The decay starts at step 0 and the warm-up overrides it, so the rate may drop at the end of the warm-up.
    Source: WarmupLearningRateSchedule of the official utils.py.

    Raises:
      ValueError: for a negative number, a warm-up given in both units, or an exponential schedule with
        `decay_epochs` of 0.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name != "kind" and not 0 <= value < math.inf:
            raise ValueError(f"optimizer.schedule.{field.name} must be finite and at least 0, got {value}")
    if config.warmup_epochs and config.warmup_steps:
        raise ValueError(
            f"one of warmup_epochs and warmup_steps must be 0, got {config.warmup_epochs:g} and {config.warmup_steps}"
        )
    if config.kind == "exponential" and not config.decay_epochs:
        raise ValueError("the exponential schedule needs decay_epochs above 0")
    peak = config.base_rate * (batch_size / config.reference_batch if config.reference_batch else 1.0)
    run = _Run(config, peak, steps_per_epoch, total_steps)
    warmup_steps = config.warmup_steps or int(config.warmup_epochs * steps_per_epoch)
    decayed = SCHEDULES[config.kind]

    def rate(step: Array | int) -> Array:
        now = jnp.asarray(step, jnp.float32)
        value = jnp.maximum(decayed(run, now), jnp.float32(config.end_rate))
        if warmup_steps:
            value = jnp.where(now < warmup_steps, peak * now / warmup_steps, value)
        return value

    return rate
