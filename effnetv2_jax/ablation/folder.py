"""The folder of an ablation, a path or `gs://…`: its settings, and a run folder for each run."""

from __future__ import annotations

import dataclasses

from etils import epath

from effnetv2_jax.ablation.settings import MAY_GROW, AblationSettings, settings_from_json
from effnetv2_jax.ablation.tables import TABLES
from effnetv2_jax.config_fields import differing
from effnetv2_jax.paths import absolute
from effnetv2_jax.train.run.processes import share_first_error
from effnetv2_jax.train.run_folder.json_file import read_json, write_json

_SETTINGS = "ablation.json"


class AblationFolder:
    """The folder of an ablation, which all of its processes share."""

    def __init__(self, path: str) -> None:
        """Opens a folder, which need not exist."""
        self.path = absolute(path)

    @property
    def exists(self) -> bool:
        """Whether it holds an ablation."""
        return self._file.exists()

    def settings(self) -> AblationSettings:
        """Returns the settings of the ablation.

        Raises:
          ValueError: if they are damaged.
          FileNotFoundError: if the folder holds no ablation.
        """
        if not self.exists:
            raise FileNotFoundError(f"{self.path} contains no ablation: it has no {_SETTINGS}")
        try:
            return settings_from_json(read_json(self._file, dict))
        except ValueError as error:
            raise ValueError(f"{self._file} is damaged: {error}") from None

    def begin(self, settings: AblationSettings) -> AblationSettings:
        """Writes the settings of a new ablation, or adds to those of the one in the folder, and returns them.

        An ablation may get more tables and more seeds than before. The first process does this for all that have
        joined.

        Raises:
          ValueError: if other settings differ; the message names them.
        """
        before = self.settings() if self.exists else settings
        if changed := differing(before, settings, MAY_GROW):
            raise ValueError(
                f"{self.path} contains an ablation with another {' and another '.join(changed)}: use another folder, "
                "or name the folder alone to go on"
            )
        wanted = {*before.tables, *settings.tables}
        tables = tuple(name for name in TABLES if name in wanted)
        grown = dataclasses.replace(settings, tables=tables, seeds=max(before.seeds, settings.seeds))
        share_first_error(lambda: self._write(grown))
        return grown

    def run(self, folder: str) -> epath.Path:
        """Returns the folder of a run, see `Run.folder`."""
        return self.path / folder

    def _write(self, settings: AblationSettings) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self._file, dataclasses.asdict(settings))

    @property
    def _file(self) -> epath.Path:
        return self.path / _SETTINGS
