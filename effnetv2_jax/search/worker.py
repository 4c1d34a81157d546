"""One process of a search: it takes networks, trains them and writes their results, until none is left."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import jax

from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.search.candidate import Bar, run_candidate
from effnetv2_jax.search.folder import SearchFolder
from effnetv2_jax.search.prices import make_price, run_of
from effnetv2_jax.search.results import Result
from effnetv2_jax.search.settings import SearchSettings

_WAIT_SECONDS = 2.0

Report = Callable[[str], None]


def search(
    folder: SearchFolder, settings: SearchSettings, report: Report = lambda _: None, *, own_process: bool = False
) -> None:
    """Takes networks until every one has a result; other processes may do the same with the same folder.

    Args:
      folder: the folder of the search, in which `SearchFolder.begin` has written the settings.
      settings: the settings.
      report: called with a line of text about each network.
      own_process: whether a signal may end the process, see `train`.

    Raises:
      Stopped: at SIGTERM or Ctrl-C during a training, after saving.
      ValueError: for a config that cannot run, or a folder that is damaged.
      OSError: if the folder cannot be written.
      RuntimeError: if the process is one of several of a JAX cluster.
    """
    from effnetv2_jax.search.proposals import propose  # imports Optuna

    if jax.process_count() > 1:
        raise RuntimeError("the processes of a search are independent: start each without joining the others")
    run = run_of(settings)
    price = functools.cache(make_price(settings, run.config, run.image_size))
    waiting = False
    while not folder.is_over(settings):
        with folder.taken(settings, propose) as task:
            if task is not None:
                waiting = False
                report(f"{_name(task.proposal.number)}: {get_spec(task.spec).name}")
                number = task.proposal.number
                known = folder.results()[: settings.needed(number)] if number >= 0 else []
                bar = Bar(known, settings.stop_below, settings.stop_after * run.steps)
                result = run_candidate(run.config, task, run.num_classes, price, bar, own_process=own_process)
                folder.finish(task, result)
                report(f"{_name(number)}: {describe(result)}")
        if task is None:
            if not waiting:
                report("waiting for the candidates of other processes")
            waiting = True
            time.sleep(_WAIT_SECONDS)


def describe(result: Result) -> str:
    """Returns a result in words."""
    if result.failed:
        return f"failed: {result.failed}"
    stopped = ", stopped early" if result.stopped else ""
    return (
        f"top-1 {result.top1:.2f} %, step {1e3 * result.step_seconds:.3g} ms, {result.parameters / 1e6:.3g} M "
        f"parameters, reward {result.reward:.4f}{stopped}"
    )


def _name(number: int) -> str:
    return "to compare with" if number < 0 else f"candidate {number}"
