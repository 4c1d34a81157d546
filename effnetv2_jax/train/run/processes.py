"""The processes of a run, one on each host: how they find each other and wait for each other."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")

SILENCE_SECONDS = 60.0
"""If a process is silent for this many seconds, the others stop and say so."""

_ABORT_SECONDS = 120  # after which JAX aborts processes that wait for one that is silent, or for its end

_START_SECONDS = 300

# Environment variables that launchers set, and how to count the processes from their values.
_COUNTS: dict[str, Callable[[str], int]] = {
    "SLURM_STEP_NUM_TASKS": int,  # srun; unlike SLURM_NTASKS, it is set only in processes that srun has launched
    "OMPI_COMM_WORLD_SIZE": int,  # mpirun
    "TPU_PROCESS_ADDRESSES": lambda names: len(names.split(",")),  # GKE
    "TPU_WORKER_HOSTNAMES": lambda names: len(names.split(",")),
    "MEGASCALE_NUM_SLICES": int,
}
_CHIPS = ("/dev/accel0", "/dev/vfio/0")
_METADATA = "http://{}/computeMetadata/v1/instance/attributes/{}"
_METADATA_SECONDS = 2.0
_ERROR_BYTES = 2048


class Membership(NamedTuple):
    """The place of this process among those of a run.

    Attributes:
      coordinator: address at which process 0 listens, `host:port`.
      processes: number of processes.
      process: index of this process.
    """

    coordinator: str
    processes: int
    process: int


def join(membership: Membership | None = None) -> None:
    """Joins the other processes of the run. It must be called before a device is used.

    Args:
      membership: the place of this process. None finds it in the environment variables of Slurm, Open MPI and GKE or
        in a Cloud TPU machine's metadata; if these show a single process, nothing happens.

    Raises:
      RuntimeError: if not all processes have joined within five minutes.
    """
    initialize = functools.partial(
        jax.distributed.initialize,
        initialization_timeout=_START_SECONDS,
        heartbeat_timeout_seconds=_ABORT_SECONDS,
        shutdown_timeout_seconds=_ABORT_SECONDS,
    )
    if membership:
        initialize(*membership, cluster_detection_method="deactivate")
    elif announced_processes(os.environ, cloud_metadata) > 1:
        initialize()


def announced_processes(environment: Mapping[str, str], metadata: Callable[[str], str]) -> int:
    """Returns a lower bound on the number of processes that a launcher has announced; 1 if none has.

    Args:
      environment: environment variables.
      metadata: name of an attribute of this machine → its value, "" for none.
    """
    counts = [count(environment[name]) for name, count in _COUNTS.items() if environment.get(name)]
    if not counts and "TPU_SKIP_MDS_QUERY" not in environment:
        workers = metadata("worker-network-endpoints")
        slices = re.search(r"MEGASCALE_NUM_SLICES\s*:\s*'?(\d+)", metadata("tpu-env") if workers else "")
        counts = [len(workers.split(",")), int(slices[1]) if slices else 1]
    return max(counts, default=1)


def cloud_metadata(name: str) -> str:
    """Returns an attribute of this Cloud TPU machine, or "" on any other machine, after at most two seconds."""
    if not importlib.util.find_spec("libtpu") or not any(Path(chip).exists() for chip in _CHIPS):
        return ""
    address = _METADATA.format(os.environ.get("GCE_METADATA_IP", "169.254.169.254"), name)
    request = urllib.request.Request(address, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def require_joined() -> None:
    """Checks that processes have joined each other, without which they could not stop together.

    Raises:
      RuntimeError: if JAX sees several processes that have not joined.
    """
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise RuntimeError(
            f"JAX sees {jax.process_count()} processes that have not joined each other: remove --distributed none, or "
            "call jax.distributed.initialize() first"
        )


def is_first() -> bool:
    """Returns whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def first_before_others(work: Callable[[], T]) -> T:
    """Does the work in the first process, then in all others, and returns its result.

    The others find what the first process has left on a shared disk, such as a prepared data set, and do not make it
    again.
    """
    if not is_first():
        wait_for_all("the first process is done")
        return work()
    result = work()
    wait_for_all("the first process is done")
    return result


def share_first_error(work: Callable[[], T], kinds: Sequence[type[Exception]] = (ValueError, OSError)) -> T | None:
    """Does the work in the first process only. If it raises an error there, every process raises that error.

    Every process must call this with the same `kinds`. The others wait until the first process is done.

    Args:
      work: what the first process does.
      kinds: classes that can be made of a text alone. The other processes raise the first of them that the error is an
        instance of, or a RuntimeError if there is none.

    Returns:
      What `work` returned in the first process, and None in the others.

    Raises:
      Exception: the error of the first process; in the others, one with the same text.
    """
    result = error = None
    if is_first():
        try:
            result = work()
        except Exception as caught:
            error = caught
    if jax.process_count() > 1:
        message = multihost_utils.broadcast_one_to_all(_error_message(error, kinds))
        if not is_first() and message[0]:
            raise [*kinds, RuntimeError][message[0] - 1](bytes(message[1:]).rstrip(b"\0").decode(errors="ignore"))
    if error is not None:
        raise error
    return result


def _error_message(error: Exception | None, kinds: Sequence[type[Exception]]) -> np.ndarray:
    """Returns an error as bytes of a fixed number: 0 for no error or 1 + its index in `kinds`, then its text."""
    message = np.zeros(_ERROR_BYTES, np.uint8)
    if error is not None:
        kind = next((index for index, kind in enumerate(kinds) if isinstance(error, kind)), len(kinds))
        text = (str(error) or type(error).__name__).encode()[: _ERROR_BYTES - 1]
        message[0], message[1 : 1 + len(text)] = 1 + kind, np.frombuffer(text, np.uint8)
    return message


def wait_for_all(what: str) -> None:
    """Blocks until every process has called this with the same `what`, which names the event."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def number_of_first(number: int) -> int:
    """Returns the number that the first process passes, in every process."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))
