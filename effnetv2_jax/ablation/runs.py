"""The runs of an ablation: one for each different row and seed, since tables have rows in common."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from effnetv2_jax.ablation.outline import Outline
from effnetv2_jax.ablation.settings import AblationSettings
from effnetv2_jax.ablation.tables import Row, Table
from effnetv2_jax.train.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
      folder: its folder, relative to that of the ablation.
      label: the row that it is for and its seed, in words.
      config: its config.
    """

    folder: str
    label: str
    config: TrainConfig


class RunNames:
    """The names of the rows' folders.

    A row has the name of the first row, of all tables, with the same config, so that the names do not depend on the
    tables that are asked for.
    """

    def __init__(self, outline: Outline, tables: Mapping[str, Table]) -> None:
        """Names the rows of every table of a run."""
        self._outline = outline
        self._names: dict[str, str] = {}
        for table, made in tables.items():
            for row in made.rows:
                self._names.setdefault(self._key(row), f"{table}_{_plain(row.name)}")

    def name(self, row: Row) -> str:
        """Returns the name of a row's folder."""
        return self._names[self._key(row)]

    def _key(self, row: Row) -> str:
        return self._outline.changed(row.fields).identity()


def runs_of(settings: AblationSettings, outline: Outline, tables: Mapping[str, Table]) -> list[Run]:
    """Returns the runs of the tables that are asked for: all rows with the first seed, then with the second, and so on.

    So each table is filled early, and changes of a machine's speed spread over all rows.

    Args:
      settings: the ablation.
      outline: the outline of the run that the tables change.
      tables: every table, see `AblationSettings.tables_of`.

    Raises:
      ValueError: for a table whose rows are all the same with this config.
    """
    names = RunNames(outline, tables)
    for table in settings.tables:
        if len({(names.name(row), row.weights) for row in tables[table].rows}) == 1:
            raise ValueError(f"all rows of the table {table!r} are the same with this config: it has one stage")
    found: dict[str, Run] = {}
    for number in range(settings.seeds):
        for table in settings.tables:
            for row in tables[table].rows:
                folder = run_folder(names.name(row), number)
                if folder not in found:
                    found[folder] = _run(outline, row, number, folder)
    return list(found.values())


def run_folder(name: str, number: int) -> str:
    """Returns the folder of a row's run, relative to that of the ablation; the runs are counted from 0."""
    return f"runs/{name}/{number}"


def _run(outline: Outline, row: Row, number: int, folder: str) -> Run:
    config = outline.changed(row.fields).config
    config.seed += number
    return Run(folder, f"{row.name}, seed {config.seed}", config)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]+", "_", name.replace("–", "-")).strip("_")
