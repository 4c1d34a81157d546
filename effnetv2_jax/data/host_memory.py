"""The host memory that the input pipeline uses, and the budget that it must fit into."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from effnetv2_jax.byte_size import byte_size
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.sources.source import Source
from effnetv2_jax.data.stream import holds_share

_log = logging.getLogger(__name__)

PREFETCHED_BATCHES = 2
_BATCHES_IN_FLIGHT = PREFETCHED_BATCHES + 2  # one being filled, one held by the caller
_GIGABYTE = 1e9
_CONTROL_GROUP = Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes of host memory that the pipeline uses.

    Attributes:
      budget: limit on the pipeline's memory.
      encoded: bytes of the shuffle buffer of encoded examples.
      batches: bytes of finished batches and of images being processed.
      kept: whether the buffer holds all examples of this host, which are then read once and kept in memory.
    """

    budget: float
    encoded: float
    batches: float
    kept: bool

    def __str__(self) -> str:
        encoded = "all encoded images" if self.kept else "shuffle buffer"
        return (
            f"{encoded}: {byte_size(self.encoded)}, batches: {byte_size(self.batches)}, "
            f"of a budget of {byte_size(self.budget)}"
        )


def plan_memory(
    config: DataConfig, sources: Sequence[Source], *, image_size: int, batch_size: int, threads: int
) -> MemoryPlan:
    """Plans the memory of a training pipeline that reads the parts `sources`.

    The buffer does not shrink to fit, because the order of the examples would then depend on the machine.

    Raises:
      ValueError: if the buffer and the batches exceed the budget; the message names a `shuffle_buffer` that fits.
    """
    budget = config.memory_gb * _GIGABYTE or available_bytes() / 2
    image, buffer = 3 * image_size**2, buffer_of_part(config)
    plan = MemoryPlan(
        budget=budget,
        encoded=sum(min(buffer, source.num_examples) * source.entry_bytes for source in sources),
        batches=_BATCHES_IN_FLIGHT * batch_size * image + threads * 8 * image,  # two float32 copies of each image
        kept=all(holds_share(source, buffer) for source in sources),
    )
    if plan.encoded + plan.batches > budget:
        fitting = int((budget - plan.batches) * config.parts / max(sum(source.entry_bytes for source in sources), 1))
        remedy = f"reduce shuffle_buffer to {fitting}" if fitting > 0 else "reduce batch_size"
        raise ValueError(f"the input pipeline does not fit into host memory ({plan}): {remedy}, or raise memory_gb")
    _log.info("input pipeline: %s", plan)
    return plan


def buffer_of_part(config: DataConfig) -> int:
    """Returns the number of encoded examples in the shuffle buffer of each part."""
    return max(1, config.shuffle_buffer // config.parts)


def available_bytes() -> float:
    """Returns the bytes of free host memory, of the system or under the container's limit, whichever is less."""
    available = float(psutil.virtual_memory().available)
    try:
        limit, used = (float((_CONTROL_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        return min(available, limit - used)
    except (OSError, ValueError):  # no control groups, or the limit is "max"
        return available
