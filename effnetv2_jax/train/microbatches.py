"""The numbers of microbatches that a config allows."""

from __future__ import annotations

from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.devices.memory import accumulation_choices, automatic_choices
from effnetv2_jax.train.devices.sharding import check_group_size, groups_fit


def possible_microbatches(config: TrainConfig, devices: int) -> tuple[int, ...]:
    """Returns all numbers of microbatches with whole images on each device, and whole groups for BatchNorm.

    Raises:
      ValueError: if the groups do not fit the whole batch.
    """
    batch_size, group_size = config.batch_size, config.model.bn_group_size
    check_group_size(group_size, batch_size, devices)
    choices = accumulation_choices(batch_size, devices)
    return tuple(count for count in choices if groups_fit(group_size, batch_size // count, devices))


def allowed_microbatches(config: TrainConfig, devices: int) -> tuple[int, ...]:
    """Returns the numbers of microbatches to try in turn, by `accumulation_steps` alone.

    Raises:
      ValueError: if `accumulation_steps` is neither `auto` nor a number that divides the batch.
    """
    batch_size, group_size = config.batch_size, config.model.bn_group_size
    if config.accumulation_steps == "auto":
        choices = possible_microbatches(config, devices)
        return automatic_choices(choices, batch_size // devices, group_size // devices)
    choices = accumulation_choices(batch_size, devices)
    try:
        microbatches = int(config.accumulation_steps)
    except ValueError:
        raise ValueError(f"accumulation_steps must be a number or 'auto', got {config.accumulation_steps!r}") from None
    if microbatches not in choices:
        raise ValueError(
            f"accumulation_steps {microbatches} does not divide batch_size {batch_size} into whole images on each of "
            f"{devices} devices; allowed: {', '.join(map(str, choices))}"
        )
    check_group_size(group_size, batch_size // microbatches, devices)
    return (microbatches,)


def with_the_same_groups(config: TrainConfig, choices: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the numbers of microbatches, of some, that leave BatchNorm's groups as the config has them.

    Without groups, BatchNorm normalises whole microbatches. Then all numbers are returned if the config leaves the
    choice to the run, and none otherwise.
    """
    group = config.model.bn_group_size
    if not group:
        return choices if config.accumulation_steps == "auto" else ()
    return tuple(count for count in choices if config.batch_size // count >= group)
