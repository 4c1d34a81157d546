"""Searches for the fastest programs of a run on a TPU slice that this machine does not have, with its compiler."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from effnetv2_jax.analysis.program_cost import CACHE
from effnetv2_jax.analysis.topology import Topology
from effnetv2_jax.analysis.tuning.compiler_options import COMMUNICATION, COMPUTATION, CompilerOption
from effnetv2_jax.analysis.tuning.search import Result, Search
from effnetv2_jax.train.experiment import Experiment


def tune(
    experiment: Experiment,
    topology: Topology,
    seconds: float | None = None,
    cache: str = CACHE,
    report: Callable[[str], None] = lambda _: None,
    options: Sequence[CompilerOption] = COMPUTATION,
    communication: Sequence[CompilerOption] = COMMUNICATION,
) -> Result:
    """Searches for the settings with which the TPU compiler estimates the fewest cycles, for each program of a run.

    Single rows of the network tell which compiler options are worth trying. The search then changes one setting at a
    time and keeps what saves cycles: each of these options, the number of microbatches, and the rows to compute again.
    The stage that takes the most of the run goes ahead: the other programs first try only what has helped it, and all
    changes in the end. The search ends when no change helps, or when its time is over. With the same cache, another
    search takes what this one has compiled.

    Args:
      experiment: the run, made for the slice's number of devices.
      topology: the slice.
      seconds: time after which no further program is compiled; None for no limit.
      cache: folder that stores the costs of compiled programs; "" for no cache.
      report: called with a line of text after each program.
      options: the compiler's options for what a chip computes.
      communication: those for sums over the chips, which are tried together.

    Raises:
      DeviceMemoryError: if a program does not fit the slice with any number of microbatches.
    """
    search = Search(experiment, topology, cache, report, time.monotonic() + seconds if seconds else None)
    search.start()
    options = search.worth_trying(options)
    for improve in (search.improve_as_slowest, search.improve):
        improved = True
        while improved and not search.is_over:
            changes = (*map(search.with_option, options[:1]), search.with_microbatches, search.with_remat)
            changes += tuple(map(search.with_option, options[1:]))
            improved = False
            for change in changes:
                improved |= improve(change)
            if topology.devices > 1:
                improved |= search.improve_communication(communication)
    return search.result()
