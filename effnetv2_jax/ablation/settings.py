"""The settings of an ablation, as its folder records them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from effnetv2_jax.ablation.outline import Outline, make_outline
from effnetv2_jax.ablation.tables import TABLES, Networks, Table
from effnetv2_jax.config_fields import check_types, from_json
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.similar_names import did_you_mean
from effnetv2_jax.train.config import unflatten

MAY_GROW = frozenset({"tables", "seeds"})
"""Settings that may change: an ablation may get more tables and more seeds than before."""


@dataclasses.dataclass(frozen=True)
class AblationSettings:
    """What determines the runs of an ablation.

    Attributes:
      config: the fields of the run that the tables change, by dotted name.
      base: the network whose rows the table `fused` replaces, as the text of a spec.
      networks: the networks of the table `networks`, as texts of specs.
      tables: names of the tables, keys of `TABLES`.
      seeds: number of runs for each row; their seeds follow that of the config.
    """

    config: Mapping[str, Any]
    base: str
    networks: tuple[str, ...]
    tables: tuple[str, ...] = tuple(TABLES)
    seeds: int = 3

    def outline(self, devices: int) -> Outline:
        """Returns the outline of the run that the tables change, on a number of devices of all processes.

        Raises:
          ValueError: for a config that cannot run.
          FileNotFoundError: if the data does not exist.
        """
        return make_outline(unflatten(self.config), devices)

    def tables_of(self, outline: Outline) -> dict[str, Table]:
        """Returns every table of the run by its name, also those that are not asked for.

        Raises:
          ValueError: if a row of a table that is asked for cannot run.
        """
        networks = Networks(get_spec(self.base), tuple(map(get_spec, self.networks)))
        made = {name: table(outline, networks) for name, table in TABLES.items()}
        for name in self.tables:
            for row in made[name].rows:
                try:
                    outline.changed(row.fields)
                except ValueError as error:
                    raise ValueError(f"table {name}, {row.name}: {error}") from None
        return made


def settings_from_json(content: Mapping[str, Any]) -> AblationSettings:
    """Returns the settings that a folder records.

    Raises:
      ValueError: if they are damaged or out of range; the message names the field.
    """
    settings = from_json(AblationSettings, content, "an ablation")
    check_settings(settings)
    return settings


def check_settings(settings: AblationSettings) -> None:
    """Checks the settings of an ablation.

    Raises:
      ValueError: if one is out of range; the message names it, its value and what is allowed.
    """
    check_types(settings)
    for name in settings.tables:
        if name not in TABLES:
            raise ValueError(f"unknown table {name!r}{did_you_mean(name, TABLES)}; the tables are {', '.join(TABLES)}")
    if not settings.tables:
        raise ValueError(f"an ablation needs at least one of the tables {', '.join(TABLES)}")
    if settings.seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {settings.seeds}")
    get_spec(settings.base)
    names = [get_spec(text).name for text in settings.networks]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"networks must be at least two with different names, got {', '.join(names) or 'none'}")
