"""Learning rate by step."""

import dataclasses
from collections.abc import Callable
from types import MappingProxyType

import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass
class ScheduleConfig:
    """The learning rate over a run. Durations are in epochs unless named steps.

    The peak is `base_rate` × batch / `reference_batch`; a `reference_batch` of 0 takes `base_rate` as it is.
    """

    kind: str = "exponential"
    base_rate: float = 0.016
    reference_batch: int = 256
    warmup_epochs: float = 5.0
    warmup_steps: int = 0
    decay_rate: float = 0.97
    decay_epochs: float = 2.4
    end_rate: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Run:
    """What a schedule is computed from: the peak rate and durations in steps."""

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

    The decay is counted from step 0 and the linear warm-up overrides it, so the rate may jump where the warm-up ends.
    Source: WarmupLearningRateSchedule of the official utils.py.

    Raises:
      ValueError: for an unknown kind, a negative number or a warm-up given in both units.
    """
    if config.kind not in SCHEDULES:
        raise ValueError(f"unknown schedule {config.kind!r}; known schedules: {', '.join(SCHEDULES)}")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name != "kind" and value < 0:
            raise ValueError(f"optimizer.schedule.{field.name} must not be negative, got {value}")
    if config.warmup_epochs and config.warmup_steps:
        raise ValueError("give the warm-up as warmup_epochs or as warmup_steps and set the other to 0")
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
