"""How much host memory the pipeline takes, against a budget."""

import dataclasses
import logging
from collections.abc import Sequence

import psutil  # type: ignore[import-untyped]

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.sources.source import Source
from effnetv2_jax.data.stream import holds_share

_log = logging.getLogger(__name__)

PREFETCHED_BATCHES = 2
_BATCHES_IN_FLIGHT = PREFETCHED_BATCHES + 2  # one being filled, one in the caller's hands
_GIGABYTE = 1e9


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes of host memory by use.

    Attributes:
      budget: what the pipeline may take.
      encoded: the shuffle buffer of encoded examples.
      batches: finished batches, and images being worked on.
      kept: whether the buffer holds the whole share, which is then read once and kept.
    """

    budget: float
    encoded: float
    batches: float
    kept: bool

    def __str__(self) -> str:
        encoded = "all encoded images, kept" if self.kept else "shuffle buffer"
        return (
            f"{encoded}: {self.encoded / _GIGABYTE:.3g} GB, batches: {self.batches / _GIGABYTE:.3g} GB, "
            f"of a budget of {self.budget / _GIGABYTE:.3g} GB"
        )


def plan_memory(
    config: DataConfig, sources: Sequence[Source], *, image_size: int, batch_size: int, threads: int
) -> MemoryPlan:
    """Plans the memory of a training pipeline that reads the parts `sources`.

    Nothing shrinks by itself to fit: the order of the examples would then depend on the machine.

    Raises:
      ValueError: the buffer and the batches exceed the budget; the message says what would fit.
    """
    budget = config.memory_gb * _GIGABYTE or available_bytes() / 2
    image, buffer = 3 * image_size**2, buffer_of_part(config)
    plan = MemoryPlan(
        budget=budget,
        encoded=sum(min(buffer, source.num_examples) * source.entry_bytes for source in sources),
        batches=_BATCHES_IN_FLIGHT * batch_size * image + threads * 8 * image,  # at work an image is float32, twice
        kept=all(holds_share(source, buffer) for source in sources),
    )
    if plan.encoded + plan.batches > budget:
        fitting = int((budget - plan.batches) * config.parts / max(sum(source.entry_bytes for source in sources), 1))
        remedy = (
            f"shuffle_buffer {fitting} fits" if fitting > 0 else "no shuffle_buffer does: take a smaller batch_size"
        )
        raise ValueError(f"the input pipeline needs {plan}; {remedy}, or set memory_gb")
    _log.info("input pipeline: %s", plan)
    return plan


def buffer_of_part(config: DataConfig) -> int:
    """The encoded examples in the shuffle buffer of each part."""
    return max(1, config.shuffle_buffer // config.parts)


def available_bytes() -> float:
    """Host memory that is free for use: what the system reports, or what the container's limit leaves, if less."""
    available = float(psutil.virtual_memory().available)
    try:
        with open("/sys/fs/cgroup/memory.max") as limit, open("/sys/fs/cgroup/memory.current") as used:
            return min(available, float(limit.read()) - float(used.read()))
    except (OSError, ValueError):  # no control groups, or "max"
        return available
