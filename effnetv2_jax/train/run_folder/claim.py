"""The run folder: its files, the identity of the run that it holds, and the claim of the process that writes there."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from etils import epath

from effnetv2_jax.model.provenance import CARD
from effnetv2_jax.paths import absolute
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS
from effnetv2_jax.train.run.processes import is_first, share_first_error
from effnetv2_jax.train.run_folder.changes import Change, ChangeRules, changed_fields, check_accepted, check_changes
from effnetv2_jax.train.run_folder.json_file import read_json, write_json
from effnetv2_jax.train.run_folder.owner import owned
from effnetv2_jax.train.run_folder.starts import STARTS, changed_names, differences, read_starts, start_record

CONFIG, DATA, METRICS, SUMMARY = "config.json", "data.json", "metrics.jsonl", "summary.json"
"""Names in a run folder, besides `CARD`, the provenance of its weights, `OWNER` and `STARTS`."""

_WRITTEN_BY_STEPS = (CHECKPOINTS, METRICS, SUMMARY)
_SECONDS_TO_APPEAR = 30


@dataclasses.dataclass(frozen=True)
class RunIdentity:
    """What a run is: what must not change when it is resumed, and what may.

    Attributes:
      config: the configuration's fields by dotted name, as JSON values.
      defaults: the default of each field.
      rules: the fields that may change.
      data_origin: description of the data; equal descriptions mean equal examples.
      data_sizes: digest of the sizes of the files of images; "" if they are unknown.
      teacher: digest of the weights of the network that the run learns from; "" if there is none.
      card: the provenance of the run's weights.
      stage_ends: the last step of each stage.
      settings: name of a program → how a tuning compiles it, in words; none for the programs without a tuning.
    """

    config: Mapping[str, Any]
    defaults: Mapping[str, Any]
    rules: ChangeRules
    data_origin: str
    data_sizes: str
    teacher: str
    card: Mapping[str, str]
    stage_ends: tuple[int, ...]
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def data(self) -> dict[str, str]:
        """Returns the description of the data, and of the teacher if there is one, as it is kept in the folder."""
        teacher = {"teacher": self.teacher} if self.teacher else {}
        return {"origin": self.data_origin, "sizes": self.data_sizes, **teacher}


class News(NamedTuple):
    """What has changed since the last start of a run, in lines: fields of its config, and what may change its bits.

    Only the first process gets any.
    """

    changes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A run's claim to its folder.

    Attributes:
      folder: the run folder.
      check: raises `OwnershipLost` if this process must no longer write there. It is fast enough for every step.
    """

    folder: epath.Path
    check: Callable[[], None]
    _identity: RunIdentity
    _resumes: bool

    def begin(self, step: int) -> News:
        """Records that the run goes on after `step` steps, and returns what has changed since its last start.

        The config of the folder is then that of this start.

        Raises:
          ValueError: if the run is already longer than its config says now.
        """
        identity = self._identity
        if step > identity.stage_ends[-1]:
            raise ValueError(
                f"{self.folder} contains a run of {step:,} steps, more than the {identity.stage_ends[-1]:,} that "
                "epochs, steps and min_steps give now: raise them"
            )
        return share_first_error(lambda: self._record(step)) or News((), ())

    def _record(self, step: int) -> News:
        identity, folder = self._identity, self.folder
        starts = read_starts(folder) if self._resumes else []
        changes = _changes(folder, identity)
        record = start_record(step, identity.stage_ends, changes, identity.settings)
        write_json(folder / STARTS, [*starts, record])  # first, so that a changed config always has its record
        write_json(folder / CONFIG, identity.config)
        if identity.data_sizes:
            write_json(folder / DATA, identity.data())  # the run may have begun where sizes are unknown
        return News(
            tuple(f"changed since the last start: {change.described(name)}" for name, change in changes.items()),
            tuple(differences(starts[-1], record)) if starts else (),
        )


def saved_number(workdir: str, field: str, default: int) -> int:
    """Returns the value of a field of the config of the run that a folder holds; the default if it holds none.

    Raises:
      ValueError: if the config is damaged.
    """
    path = absolute(workdir) / CONFIG
    number = read_json(path, dict).get(field, default) if path.exists() else default
    if type(number) is not int or number < 1:
        raise ValueError(f"{path} is damaged: {field} must be a whole number above 0, got {number!r}")
    return number


@contextlib.contextmanager
def claimed(workdir: str, identity: RunIdentity, accepted: Collection[str] = ()) -> Iterator[Claim]:
    """A context in which a run, and no other, writes into its folder. A new run's identity is written there.

    The first process makes the claim. The others compare their config and data with those in the folder. A folder that
    is refused is not changed.

    Args:
      workdir: the run folder, a path or `gs://…`.
      identity: what the run is.
      accepted: names of fields of the config that may differ from the folder's from now on.

    Raises:
      ValueError: if another process writes there; if the folder holds a run with another configuration or on other
        data, or files of a run without its configuration; if a name in `accepted` is wrong; or if the processes do not
        share the folder.
    """
    folder = absolute(workdir)
    with contextlib.ExitStack() as stack:

        def claim() -> Claim:
            _check(folder, identity, accepted)
            still_owned = stack.enter_context(owned(folder))
            resumes = _check(folder, identity, accepted)  # again: another run may have ended meanwhile
            if not resumes:
                write_json(folder / CARD, identity.card)
                write_json(folder / DATA, identity.data())
                write_json(folder / CONFIG, identity.config)
            return Claim(folder, still_owned, identity, resumes)

        made = share_first_error(claim)
        if not is_first():
            _wait_until_visible(folder / CONFIG)
            check_changes(_changes(folder, identity), identity.rules, accepted, str(folder))
            _check_data(folder, identity)
        yield made or Claim(folder, lambda: None, identity, True)


def _check(folder: epath.Path, identity: RunIdentity, accepted: Collection[str]) -> bool:
    """Checks that a folder holds no other run, and returns whether it holds this one."""
    written = _written_files(folder)
    if written and not (folder / CONFIG).exists():
        raise ValueError(
            f"{folder} contains {', '.join(written)} but no {CONFIG}, so no run can be resumed there; use another "
            "--workdir"
        )
    changes = _changes(folder, identity) if written else {}
    earlier = changed_names(read_starts(folder)) if written else set()
    check_accepted(accepted, changes, identity.rules, identity.config.keys(), earlier)
    if written:
        check_changes(changes, identity.rules, accepted, str(folder))
        _check_data(folder, identity)
    return bool(written)


def _changes(folder: epath.Path, identity: RunIdentity) -> dict[str, Change]:
    return changed_fields(read_json(folder / CONFIG, dict), identity.config, identity.defaults)


def _check_data(folder: epath.Path, identity: RunIdentity) -> None:
    data = read_json(folder / DATA, dict) if (folder / DATA).exists() else {}
    other = f"{folder} contains a run on other data; use another --workdir or the same data"
    if data and data.get("origin") != identity.data_origin:
        raise ValueError(f"{other}. Then: {data.get('origin')}; now: {identity.data_origin}")
    if data and data.get("teacher", "") != identity.teacher:
        raise ValueError(f"{folder} contains a run with another teacher; its weights differ from those given now")
    sizes = data.get("sizes", "")
    if sizes and identity.data_sizes and sizes != identity.data_sizes:
        raise ValueError(f"{other}. Files have been replaced: the names are the same, but the sizes differ")


def _written_files(folder: epath.Path) -> list[str]:
    """Returns the names that training steps write and that have content. A run that was refused has written none."""
    return [name for name in _WRITTEN_BY_STEPS if _has_content(folder / name)]


def _has_content(path: epath.Path) -> bool:
    return any(True for _ in path.iterdir()) if path.is_dir() else path.exists() and path.stat().length > 0


def _wait_until_visible(path: epath.Path) -> None:
    """Waits until a file of the first process appears; network file systems may show it late."""
    deadline = time.monotonic() + _SECONDS_TO_APPEAR
    while not path.exists():
        if time.monotonic() > deadline:
            raise ValueError(
                f"process {jax.process_index()} cannot see {path}, which process 0 wrote: --workdir must be a folder "
                "that all processes share"
            )
        time.sleep(0.5)
