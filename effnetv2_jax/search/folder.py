"""The folder of a search: the store from which several processes take candidates, and that survives their death.

Every file appears whole or not at all, and every lock ends with the process that holds it. So a process may be killed
at any time: its candidate is taken over, and goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock
from etils import epath

from effnetv2_jax.config_fields import differing
from effnetv2_jax.model.spec_file import spec_text
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.paths import in_bucket
from effnetv2_jax.search.results import Proposal, Result, result_from_json
from effnetv2_jax.search.settings import SearchSettings, settings_from_json
from effnetv2_jax.train.run_folder.json_file import read_json, write_json

_SETTINGS, _PROPOSAL, _RESULT = "search.json", "candidate.json", "result.json"
_CANDIDATES, _REFERENCES = "candidates", "references"
_MAY_GROW = frozenset({"samples"})

Propose = Callable[[SearchSettings, int, Sequence[Result]], Proposal]


@dataclasses.dataclass(frozen=True)
class Task:
    """A network to train, which this process holds the lock of.

    Attributes:
      folder: its folder.
      proposal: what was proposed.
      spec: the network, as the text of a spec.
    """

    folder: Path
    proposal: Proposal
    spec: str


class SearchFolder:
    """The folder of a search, which lies on a disk that all of its processes share."""

    def __init__(self, path: str) -> None:
        """Opens a folder, which need not exist.

        Raises:
          ValueError: if it lies in a bucket, which has no locks.
        """
        if in_bucket(path):
            raise ValueError(f"a search needs a folder with locks, on a disk or a shared file system; got {path}")
        self.path = Path(path).expanduser().resolve()
        self._results: dict[Path, Result] = {}

    @property
    def exists(self) -> bool:
        """Whether it holds a search."""
        return (self.path / _SETTINGS).exists()

    def settings(self) -> SearchSettings:
        """Returns the settings of the search.

        Raises:
          ValueError: if they are damaged.
          FileNotFoundError: if the folder holds no search.
        """
        if not self.exists:
            raise FileNotFoundError(f"{self.path} contains no search: it has no {_SETTINGS}")
        try:
            return settings_from_json(read_json(epath.Path(self.path / _SETTINGS), dict))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.path / _SETTINGS} is damaged: {error}") from None

    def begin(self, settings: SearchSettings) -> SearchSettings:
        """Writes the settings of a new search, or checks that they are those of the search in the folder.

        A search may get more samples than before.

        Raises:
          ValueError: if they differ; the message names the fields.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock():
            before = self.settings() if self.exists else settings
            if changed := differing(before, settings, _MAY_GROW):
                raise ValueError(
                    f"{self.path} contains a search with other settings ({', '.join(changed)}): use another folder, or "
                    "name the folder alone to go on"
                )
            settings = dataclasses.replace(settings, samples=max(before.samples, settings.samples))
            write_json(epath.Path(self.path / _SETTINGS), dataclasses.asdict(settings))
        return settings

    def results(self) -> list[Result]:
        """Returns the results of the candidates by their numbers; a candidate that is not finished has none."""
        return [result for folder in self._candidates() if (result := self._result(folder))]

    def references(self) -> list[Result]:
        """Returns the results of the networks to compare with, as far as they are finished."""
        return [result for folder in sorted(self._children(_REFERENCES)) if (result := self._result(folder))]

    def finish(self, task: Task, result: Result) -> None:
        """Writes the result of a task."""
        write_json(epath.Path(task.folder / _RESULT), result.to_json())

    @contextlib.contextmanager
    def taken(self, settings: SearchSettings, propose: Propose) -> Iterator[Task | None]:
        """A context with the next task, which no other process takes meanwhile; None if there is none at present.

        Networks to compare with come first, then candidates whose process is gone, then new candidates.
        """
        with contextlib.ExitStack() as stack:
            with self._lock():
                task = self._next(settings, propose, stack)
            yield task

    def is_over(self, settings: SearchSettings) -> bool:
        """Returns whether every network has a result."""
        return len(self.results()) >= settings.samples and len(self.references()) >= len(settings.references)

    def _next(self, settings: SearchSettings, propose: Propose, stack: contextlib.ExitStack) -> Task | None:
        for text in settings.references:
            folder = self.path / _REFERENCES / _plain(get_spec(text).name)
            if self._is_free(folder, stack):
                return Task(folder, Proposal(-1, {}), text)
        known = self._candidates()
        for folder in known:
            if self._is_free(folder, stack):
                return self._task(settings, folder)
        number = len(known)
        first = [result for folder in known[: settings.needed(number)] if (result := self._result(folder))]
        if number >= settings.samples or len(first) < settings.needed(number):
            return None
        folder = self.path / _CANDIDATES / f"{number:04d}"
        proposal = propose(settings, number, first)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(epath.Path(folder / _PROPOSAL), dataclasses.asdict(proposal))
        assert self._is_free(folder, stack)
        return self._task(settings, folder)

    def _task(self, settings: SearchSettings, folder: Path) -> Task:
        try:
            proposal = Proposal(**read_json(epath.Path(folder / _PROPOSAL), dict))
            spec = settings.space.spec(proposal.params, f"candidate {proposal.number}")
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / _PROPOSAL} is damaged: {error}") from None
        return Task(folder, proposal, spec_text(spec))

    def _is_free(self, folder: Path, stack: contextlib.ExitStack) -> bool:
        """Returns whether a task has neither a result nor a process; if so, this process has it from now on."""
        if self._result(folder):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock", timeout=0)
        try:
            stack.enter_context(lock)
        except filelock.Timeout:
            return False
        return True

    def _result(self, folder: Path) -> Result | None:
        path = folder / _RESULT
        if folder not in self._results and path.exists():
            try:
                self._results[folder] = result_from_json(read_json(epath.Path(path), dict))
            except ValueError as error:
                raise ValueError(f"{path} is damaged: {error}; remove it to train the network again") from None
        return self._results.get(folder)

    def _candidates(self) -> list[Path]:
        """Returns the folders of the candidates that were proposed, by their numbers."""
        return sorted(folder for folder in self._children(_CANDIDATES) if (folder / _PROPOSAL).exists())

    def _children(self, name: str) -> list[Path]:
        folder = self.path / name
        return [child for child in folder.iterdir() if child.is_dir()] if folder.is_dir() else []

    def _lock(self) -> filelock.BaseFileLock:
        return filelock.FileLock(self.path / ".lock")


def _plain(name: str) -> str:
    """Returns a name that a folder can have."""
    return "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in name)
