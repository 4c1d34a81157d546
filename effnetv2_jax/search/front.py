"""The report of a search: rows for each network, and which of them no other one beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from effnetv2_jax.search.results import Result


def pareto_front(results: Sequence[Result]) -> list[Result]:
    """Returns the networks than which no other is at least as accurate and as fast and better in one, fastest first.

    Those that failed or were stopped early are left out. Of equal ones, the first stays.
    """
    finished = sorted(
        (each for each in results if each.is_whole),
        key=lambda each: (each.step_seconds, -each.top1),
    )
    front: list[Result] = []
    for each in finished:
        if not front or each.top1 > front[-1].top1:
            front.append(each)
    return front


def best(results: Sequence[Result]) -> Result | None:
    """Returns the network with the highest reward of those that were trained to the end; None without any."""
    return max((each for each in results if each.is_whole), key=lambda each: each.reward, default=None)


def figures(results: Sequence[Result], references: Sequence[Result]) -> list[dict[str, Any]]:
    """Returns the figures of each network as JSON values, the highest reward first."""
    front = {id(each) for each in pareto_front(results)}
    rows = [_figures(each, on_front=id(each) in front) for each in [*references, *results]]
    return sorted(rows, key=lambda row: -row["reward"])


def _figures(result: Result, *, on_front: bool) -> dict[str, Any]:
    state = "failed" if result.failed else "stopped early" if result.stopped else "front" if on_front else ""
    return {
        "network": result.network().name,
        "number": result.proposal.number,
        "top1": result.top1,
        "step_seconds": result.step_seconds,
        "parameters": result.parameters,
        "reward": result.reward,
        "state": state or ("to compare with" if result.proposal.number < 0 else ""),
        "curve": [list(each) for each in result.curve],
        "params": dict(result.proposal.params),
        "failed": result.failed,
    }
