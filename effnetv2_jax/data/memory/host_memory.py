"""The host memory that a run uses, and the budget that it must fit into. Both are known before the run starts."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence

from effnetv2_jax.byte_size import byte_size
from effnetv2_jax.data.config import DataConfig, thread_count
from effnetv2_jax.data.memory.available_memory import available_bytes
from effnetv2_jax.data.sources.source import Source
from effnetv2_jax.data.stream import holds_share

_log = logging.getLogger(__name__)

PREFETCHED_BATCHES = 2
HELD_BY_CALLER = 3
"""Batches that a caller may hold at once, because they are not on the devices yet."""

_BEING_FILLED = 3  # TensorFlow fuses `map` and `batch` into one operation, which on many threads prepares two ahead
_BATCHES_IN_FLIGHT = PREFETCHED_BATCHES + _BEING_FILLED + HELD_BY_CALLER
_EVALUATION_BATCHES = _BATCHES_IN_FLIGHT + 2  # each is copied into a padded one, and a blank one is kept
_GIGABYTE = 1e9


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """An input pipeline of a run.

    Attributes:
      name: what it is for, such as `stage 2` or `evaluation`.
      image_size: height and width of its images in pixels.
      batch_size: images in a batch, on all hosts together.
      hosts: number of hosts.
      in_flight: number of batches that are held at once.
    """

    name: str
    image_size: int
    batch_size: int
    hosts: int = 1
    in_flight: int = _BATCHES_IN_FLIGHT

    def __str__(self) -> str:
        return f"{self.name} ({self.image_size} px)"

    def bytes(self, threads: int) -> float:
        """Returns the bytes of its batches, and of the images that are being processed, two float32 copies of each."""
        return self.in_flight * self.batch_size // self.hosts * self.image_bytes + threads * 8 * self.image_bytes

    @property
    def image_bytes(self) -> int:
        """Bytes of a finished image."""
        return 3 * self.image_size**2


@dataclasses.dataclass(frozen=True)
class HostMemory:
    """The host memory of a run.

    Attributes:
      budget: bytes that the run may use, as decided when it started.
      rule: what decided the budget, in words.
      parts: what is in memory → its bytes, at the time when the run needs the most.
    """

    budget: float
    rule: str
    parts: Mapping[str, float]

    @property
    def needed(self) -> float:
        """The most bytes that the run needs at any time."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name}: {byte_size(count)}" for name, count in self.parts.items())
        return f"{byte_size(self.needed)} ({parts}), of a budget of {byte_size(self.budget)} ({self.rule})"


def evaluation_pipeline(image_size: int, batch_size: int, hosts: int = 1) -> Pipeline:
    """Returns the pipeline of evaluation; see `Pipeline` for the arguments."""
    return Pipeline("evaluation", image_size, batch_size, hosts, _EVALUATION_BATCHES)


def check_host_memory(
    config: DataConfig,
    sources: Sequence[Source],
    stages: Sequence[Pipeline],
    evaluation: Pipeline,
    *,
    reserved: Mapping[str, int],
    divisor: int = 1,
) -> HostMemory:
    """Checks that a run fits into the memory of this host, in all its stages and in evaluation.

    Evaluation takes place while the pipeline of a stage stays in memory. The shuffle buffer does not shrink to fit,
    because the order of the examples would then depend on the machine.

    Args:
      config: the data of the run.
      sources: the parts of the training split that this host reads.
      stages: the pipelines of the stages.
      evaluation: the pipeline of evaluation.
      reserved: what else the run holds in host memory → its bytes.
      divisor: the number that divides every batch size the run may have.

    Raises:
      ValueError: if something does not fit. The message names it, with what it needs and what would fit.
    """
    available = available_bytes()
    half = f"half of the {byte_size(available)} that are available"
    threads, largest = thread_count(config), max(stages, key=lambda stage: stage.image_size)
    buffer = buffer_of_part(config)
    kept = all(holds_share(source, buffer) for source in sources)
    encoded = {
        "all encoded images" if kept else "shuffle buffer": sum(
            min(buffer, source.num_examples) * source.entry_bytes for source in sources
        )
    }
    memory = HostMemory(
        budget=config.memory_gb * _GIGABYTE or available / 2,
        rule="data.memory_gb" if config.memory_gb else half,
        parts=encoded | {f"batches of {user}": user.bytes(threads) for user in (largest, evaluation)} | dict(reserved),
    )
    beside = memory.needed - largest.bytes(threads) - evaluation.bytes(threads)
    needs = {stage: beside + stage.bytes(threads) for stage in stages} | {evaluation: memory.needed}
    refused = {user: needed for user, needed in needs.items() if needed > memory.budget}
    if refused:
        excess = memory.needed - memory.budget
        remedies = [
            _smaller_buffer(config, sources, sum(encoded.values()) - excess),
            _smaller_batch(refused, largest, evaluation, excess, divisor),
            _larger_budget(memory.needed, available),
        ]
        named = ", ".join(f"{user} needs {byte_size(needed)}" for user, needed in refused.items())
        advice = ", or ".join(filter(None, remedies)) or "this host has too little memory"
        raise ValueError(f"the run does not fit into host memory: {named}; it would hold {memory}: {advice}")
    _log.info("host memory: at most %s", memory)
    return memory


def _smaller_buffer(config: DataConfig, sources: Sequence[Source], room: float) -> str:
    """Returns the advice to shrink the shuffle buffer to `room` bytes, or "" if it cannot become small enough."""
    fitting = int(room * config.parts / max(sum(source.entry_bytes for source in sources), 1))
    return f"reduce data.shuffle_buffer to {fitting}" if fitting >= config.parts else ""


def _smaller_batch(
    refused: Mapping[Pipeline, float], largest: Pipeline, evaluation: Pipeline, excess: float, divisor: int
) -> str:
    """Returns the advice to shrink the batches by `excess` bytes, or "" if they cannot become small enough.

    Fewer images in an evaluation's batch change no result, so that is enough where only the evaluation is refused.
    """
    both = "batch_size (and evaluation.batch_size, if it is set)"
    choices: dict[str, tuple[Pipeline, ...]] = {both: (largest, evaluation)}
    if tuple(refused) == (evaluation,):
        choices = {"evaluation.batch_size": (evaluation,)} | choices
    for field, users in choices.items():
        held = sum(user.in_flight * user.batch_size // user.hosts * user.image_bytes for user in users)
        per_image = sum(user.in_flight * user.image_bytes for user in users)
        fitting = int((held - excess) / per_image) * evaluation.hosts // divisor * divisor
        if fitting > 0:
            return f"reduce {field} to {fitting}"
    return ""


def _larger_budget(needed: float, available: float) -> str:
    """Returns the advice to raise the budget, or "" if so much is not available."""
    gigabytes = -(-needed // (_GIGABYTE / 100)) / 100
    return f"raise data.memory_gb to {gigabytes:g}" if gigabytes * _GIGABYTE <= available else ""


def buffer_of_part(config: DataConfig) -> int:
    """Returns the number of encoded examples in the shuffle buffer of each part."""
    return max(1, config.shuffle_buffer // config.parts)
