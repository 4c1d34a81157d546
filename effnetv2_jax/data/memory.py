"""How much host memory the pipeline takes, against a budget."""

import dataclasses
import logging

import psutil  # type: ignore[import-untyped]

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.source import Source

_log = logging.getLogger(__name__)

BATCHES_IN_FLIGHT = 4  # one being filled, two prefetched, one in the caller's hands
_GIGABYTE = 1e9


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes of host memory by use.

    Attributes:
      budget: what the pipeline may take.
      shuffle: the buffer of encoded examples.
      batches: finished batches, and images being worked on.
      cache: the encoded examples kept from epoch to epoch; 0 if they are read again each time.
    """

    budget: float
    shuffle: float
    batches: float
    cache: float

    def __str__(self) -> str:
        parts = (f"{name} {getattr(self, name) / _GIGABYTE:.2f} GB" for name in ("shuffle", "batches", "cache"))
        return f"{', '.join(parts)} of a budget of {self.budget / _GIGABYTE:.2f} GB"


def plan_memory(config: DataConfig, source: Source, *, image_size: int, batch_size: int, threads: int) -> MemoryPlan:
    """Plans the memory of a training pipeline.

    A buffer never shrinks by itself: the order of the examples would then depend on the machine. Only the cache does,
    which changes nothing but the reading.

    Raises:
      ValueError: the buffer and the batches exceed the budget; the message says what would fit.
    """
    budget = config.memory_gb * _GIGABYTE or available_bytes() / 2
    buffered = min(config.shuffle_buffer, source.num_examples)
    shuffle = buffered * source.entry_bytes
    image = 3 * image_size**2
    batches = BATCHES_IN_FLIGHT * batch_size * image + threads * 8 * image  # an image at work: float32 twice
    # The cache and a buffer that holds the whole share refer to the same strings.
    whole = source.num_examples * source.entry_bytes
    cache = whole if buffered == source.num_examples and whole + batches <= budget else 0.0
    plan = MemoryPlan(budget, 0.0 if cache else shuffle, batches, cache)
    if plan.shuffle + plan.batches > budget:
        fitting = int(max(budget - batches, 0) / max(source.entry_bytes, 1))
        raise ValueError(f"the input pipeline needs {plan}; shuffle_buffer {fitting} fits, or set memory_gb")
    _log.info("input pipeline: %s", plan)
    return plan


def available_bytes() -> float:
    """Host memory that is free for use: what the system reports, or what the container's limit leaves, if less."""
    available = float(psutil.virtual_memory().available)
    try:
        with open("/sys/fs/cgroup/memory.max") as limit, open("/sys/fs/cgroup/memory.current") as used:
            return min(available, float(limit.read()) - float(used.read()))
    except (OSError, ValueError):  # no control groups, or "max"
        return available
