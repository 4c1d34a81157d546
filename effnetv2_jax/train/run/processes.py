"""The processes of a run, one a host: how they find each other, and how they wait for each other."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
from jax.experimental import multihost_utils

T = TypeVar("T")

SILENCE_SECONDS = 60
"""After so long without a sign of life of one process, or alone at the end, the others stop with an error."""

_START_SECONDS = 300

# Variables that say how many processes there are, set by the launcher for each of them, and how to count.
_COUNTS: dict[str, Callable[[str], int]] = {
    "SLURM_STEP_NUM_TASKS": int,  # srun; SLURM_NTASKS is also set where nothing was launched yet
    "OMPI_COMM_WORLD_SIZE": int,  # mpirun
    "TPU_PROCESS_ADDRESSES": lambda names: len(names.split(",")),  # GKE
    "TPU_WORKER_HOSTNAMES": lambda names: len(names.split(",")),
    "MEGASCALE_NUM_SLICES": int,
}
_CHIPS = ("/dev/accel0", "/dev/vfio/0")
_METADATA = "http://{}/computeMetadata/v1/instance/attributes/{}"
_METADATA_SECONDS = 2.0


class Membership(NamedTuple):
    """This process among those of a run: where process 0 listens, `host:port`, how many there are, and which it is."""

    coordinator: str
    processes: int
    process: int


def join(membership: Membership | None = None) -> None:
    """Joins the other processes of the run, before the first use of a device; alone does nothing.

    Args:
      membership: who the others are. None finds out: by the variables of Slurm, Open MPI and GKE, and on a Cloud TPU by
        the machine's metadata; unless these tell of several processes, nothing is waited for.

    Raises:
      RuntimeError: if not all processes came within five minutes.
    """
    initialize = functools.partial(
        jax.distributed.initialize,
        initialization_timeout=_START_SECONDS,
        heartbeat_timeout_seconds=SILENCE_SECONDS,
        shutdown_timeout_seconds=SILENCE_SECONDS,
    )
    if membership:
        initialize(*membership, cluster_detection_method="deactivate")
    elif announced_processes(os.environ, cloud_metadata) > 1:
        initialize()


def announced_processes(environment: Mapping[str, str], metadata: Callable[[str], str]) -> int:
    """Returns how many processes the environment tells of, at least; 1 where it tells nothing.

    Args:
      environment: variables.
      metadata: an attribute's name → its value for this machine, "" for none.
    """
    counts = [count(environment[name]) for name, count in _COUNTS.items() if environment.get(name)]
    if not counts and "TPU_SKIP_MDS_QUERY" not in environment:
        workers = metadata("worker-network-endpoints")
        slices = re.search(r"MEGASCALE_NUM_SLICES\s*:\s*'?(\d+)", metadata("tpu-env") if workers else "")
        counts = [len(workers.split(",")), int(slices[1]) if slices else 1]
    return max(counts, default=1)


def cloud_metadata(name: str) -> str:
    """Returns an attribute of a Cloud TPU machine; "" anywhere else, after at most two seconds."""
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
    """Refuses to go on with processes that cannot tell each other when to stop.

    Raises:
      RuntimeError: if JAX sees several processes that have not joined.
    """
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise RuntimeError(
            f"JAX sees {jax.process_count()} processes that have not joined each other: leave out --distributed none, "
            "or call jax.distributed.initialize() first"
        )


def is_first() -> bool:
    """Tells whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def first_before_others(work: Callable[[], T]) -> T:
    """Returns what `work` gives; the first process has done it before the others begin.

    So what it leaves on a shared disk, say a data set that it prepares, the others find and do not make as well.
    """
    if not is_first():
        wait_for_all("the first process is done")
        return work()
    result = work()
    wait_for_all("the first process is done")
    return result


def wait_for_all(what: str) -> None:
    """Returns when every process has come here; `what` names the place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
