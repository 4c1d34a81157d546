"""What a search has found, as files: a table, pictures, and the networks of the front as specs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from effnetv2_jax.model.spec_file import plain_name, write_spec
from effnetv2_jax.search.folder import SearchFolder
from effnetv2_jax.search.front import best, figures, pareto_front
from effnetv2_jax.search.pictures import draw_front, draw_spec
from effnetv2_jax.search.settings import SearchSettings
from effnetv2_jax.train.run_folder.json_file import write_json

REPORT = "report"
"""The folder within that of a search."""


@dataclasses.dataclass(frozen=True)
class SearchReport:
    """What a search has found so far.

    Attributes:
      settings: the search.
      rows: the figures of each network, the highest reward first.
      files: what was written.
      best: the file with the spec of the highest reward; "" if no candidate is finished.
    """

    settings: SearchSettings
    rows: Sequence[dict[str, Any]]
    files: Sequence[Path]
    best: str


def write_report(folder: SearchFolder) -> SearchReport:
    """Writes `report.json`, `front.png`, `best.png`, and the specs of the best network, the front and the references.

    The search may still be running.

    Raises:
      ValueError: if the folder is damaged, or no network has a result yet.
      FileNotFoundError: if the folder holds no search.
      OSError: if the files cannot be written.
    """
    settings, results, references = folder.settings(), folder.results(), folder.references()
    if not results and not references:
        raise ValueError(f"{folder.path} contains a search of which no network is finished yet")
    target = folder.path / REPORT
    target.mkdir(parents=True, exist_ok=True)
    rows = figures(results, references)
    write_json(epath.Path(target / "report.json"), {"samples": settings.samples, "networks": rows})
    where = f"estimated for {settings.topology}" if settings.topology else "timed on this machine"
    title = f"{settings.method}, {len(results)} of {settings.samples} candidates, steps {where}"
    draw_front(target / "front.png", results, references, title)
    files = [target / "report.json", target / "front.png"]
    for each in pareto_front(results):
        files.append(target / f"candidate_{each.proposal.number:04d}.json")
        write_spec(files[-1], each.network())
    for each in references:
        files.append(target / f"{plain_name(each.network().name)}.json")
        write_spec(files[-1], each.network())
    winner = best(results)
    if winner:
        write_spec(target / "best.json", dataclasses.replace(winner.network(), name="best"))
        draw_spec(target / "best.png", winner.network())
        files += [target / "best.json", target / "best.png"]
    return SearchReport(settings, rows, files, str(target / "best.json") if winner else "")
