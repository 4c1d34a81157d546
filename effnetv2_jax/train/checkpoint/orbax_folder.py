"""The folder of one checkpoint: a tree of arrays, and a record of what they must be.

This is the only module that uses Orbax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as v0
from etils import epath
from orbax.checkpoint import v1 as ocp

from effnetv2_jax.paths import in_bucket
from effnetv2_jax.train.checkpoint.arrays import description, digests, named_leaves, whole_digest

_STATE = "state"
_RECORD = "effnetv2_jax"  # key of the record in the checkpoint's metadata
# Parts of the names of folders that are being written or deleted.
_BEING_WRITTEN, _BEING_DELETED = ".orbax-checkpoint-tmp", ".deleting"
_COMMITTED = "commit_success.txt"  # name of the file that Orbax writes last into a checkpoint in a bucket
# What tensorstore's errors contain if the storage failed; they have no class of their own.
_STORAGE_CODES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED")


class DamagedCheckpointError(ValueError):
    """A folder does not contain the checkpoint that was once written into it, or none of a run."""

    def __init__(self, path: epath.Path, reason: str) -> None:
        super().__init__(f"{path} is damaged or not a checkpoint of a run: {reason}")
        self.path = path


@dataclasses.dataclass(frozen=True)
class Record:
    """What a checkpoint's arrays must be; it is stored with them.

    Attributes:
      step: number of steps after which the state was saved.
      arrays: dtype and shape of each array by name, such as `float32[3,3,24,48]`.
      digests: digest of each array by name, see `arrays.digest`.
    """

    step: int
    arrays: Mapping[str, str]
    digests: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The digest of all arrays together, equal for equal states."""
        return whole_digest(self.digests)


def write(path: epath.Path, step: int, tree: Any) -> None:
    """Writes a tree of host arrays into a new folder, which appears only once it is whole.

    Raises:
      OSError: if that fails.
    """
    arrays = named_leaves(tree)
    record = Record(step, {name: description(array) for name, array in arrays.items()}, digests(arrays))
    content = dataclasses.asdict(record) | {"whole": record.digest}
    try:
        # Version 1 of Orbax's interface cannot save in one process alone: it compares the paths of all processes.
        alone = _only_this_process()
        handler = v0.CompositeCheckpointHandler(
            composite_options=v0.CompositeOptions(multiprocessing_options=alone),
            **{_STATE: v0.PyTreeCheckpointHandler(multiprocessing_options=alone)},
        )
        with v0.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
            arguments = v0.args.Composite(**{_STATE: v0.args.PyTreeSave(tree)})
            checkpointer.save(path, arguments, custom_metadata={_RECORD: content})
    except Exception as error:  # Orbax and tensorstore have no common class of errors
        raise OSError(_first_line(error)) from error


def read_record(path: epath.Path) -> Record:
    """Returns the record of a checkpoint.

    Raises:
      DamagedCheckpointError: if it has none, or a damaged one.
      OSError: if the storage fails.
    """
    try:
        with _context():
            metadata = ocp.checkpointables_metadata(path).custom_metadata
    except Exception as error:  # Orbax and tensorstore have no common class of errors
        raise _unreadable(path, error, "its metadata cannot be read") from error
    if not metadata or _RECORD not in metadata:
        raise DamagedCheckpointError(path, "it has no record of its arrays")
    try:
        content = metadata[_RECORD]
        record = Record(int(content["step"]), dict(content["arrays"]), dict(content["digests"]))
        whole = content["whole"]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedCheckpointError(path, "its record is damaged") from error
    if record.digest != whole or record.arrays.keys() != record.digests.keys():
        raise DamagedCheckpointError(path, "its record does not match its own digest")
    return record


def read_arrays(path: epath.Path, record: Record, under: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Reads arrays into host memory, and checks them against their digests.

    Args:
      path: the checkpoint's folder.
      record: its record.
      under: names of parts of the state, such as `params`; () reads the whole state.

    Returns:
      The arrays by name.

    Raises:
      DamagedCheckpointError: if an array is missing or differs from what was saved; the message names it.
      OSError: if the storage fails.
    """
    wanted = {name for name in record.arrays if not under or name.split("/")[0] in under}
    try:
        found = named_leaves(_load(path, under))
    except Exception as error:  # Orbax and tensorstore have no common class of errors
        raise _unreadable(path, error, f"its arrays cannot be read: {_first_line(error)}") from error
    if missing := sorted(wanted - found.keys()):
        raise DamagedCheckpointError(path, f"{missing[0]} and {len(missing) - 1} other arrays are missing")
    arrays = {name: np.asarray(found[name]) for name in record.arrays if name in wanted}
    wrong = [name for name, value in digests(arrays).items() if value != record.digests[name]]
    if wrong:
        raise DamagedCheckpointError(
            path,
            f"{wrong[0]} differs from what was saved" + (f", and so do {len(wrong) - 1} others" * (len(wrong) > 1)),
        )
    return arrays


def is_committed(path: epath.Path) -> bool:
    """Returns whether a folder of a checkpoint, by its name, was once written whole.

    On a disk, a folder gets its name when it is whole. A bucket cannot rename folders, so there a file marks them.
    """
    return not in_bucket(path) or (path / _COMMITTED).exists()


def delete(path: epath.Path) -> None:
    """Deletes the folder of a checkpoint. It ceases to be one before the first of its files is deleted."""
    if in_bucket(path):
        (path / _COMMITTED).unlink(missing_ok=True)
    else:
        path = path.rename(path.parent / f"{path.name}{_BEING_DELETED}")
    path.rmtree()


def remove_unfinished(folder: epath.Path) -> None:
    """Removes what processes that were killed while saving or deleting have left in a folder of checkpoints."""
    for path in folder.iterdir():
        left = _BEING_WRITTEN in path.name or path.name.endswith(_BEING_DELETED)
        if left or (path.name.isdigit() and not is_committed(path)):
            path.rmtree(missing_ok=True)


def _load(path: epath.Path, under: tuple[str, ...]) -> Any:
    if not under:
        with _context():
            return ocp.load_checkpointables(path)[_STATE]
    with _context():
        saved = ocp.checkpointables_metadata(path).metadata[_STATE]
    wanted = {name: jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), saved[name]) for name in under}
    with _context(partly=True):
        return ocp.load_checkpointables(path, {_STATE: wanted})[_STATE]


def _context(*, partly: bool = False) -> ocp.Context:
    """Returns a context in which Orbax neither waits for other processes nor divides the work with them.

    With `partly`, it reads only the arrays that it is asked for.
    """
    context = ocp.Context()
    context.pytree_options.loading.partial_load = partly
    alone = _only_this_process()
    context.multiprocessing.primary_host = alone.primary_host
    context.multiprocessing.active_processes = alone.active_processes
    context.multiprocessing.barrier_sync_key_prefix = alone.barrier_sync_key_prefix
    return context


def _only_this_process() -> v0.options.MultiprocessingOptions:
    if jax.process_count() == 1:
        return v0.options.MultiprocessingOptions()
    index = jax.process_index()
    return v0.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
    )


def _unreadable(path: epath.Path, error: Exception, reason: str) -> Exception:
    """Returns the error to raise for a failure to read. If the storage failed, the checkpoint may still be sound."""
    storage_failed = isinstance(error, OSError) and not isinstance(error, FileNotFoundError | NotADirectoryError)
    if storage_failed or any(code in str(error) for code in _STORAGE_CODES):
        return OSError(f"{path} could not be read: {_first_line(error)}")
    return DamagedCheckpointError(path, reason)


def _first_line(error: BaseException) -> str:
    """Returns the first line of the text of an error's cause, shortened, or the name of its class."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    if isinstance(error, KeyError):
        return f"{error} is missing"
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 200 else f"{line[:200]} …"
