"""The folder of a training run of ours, read without the trainer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

from effnetv2_jax.convert.formats.tensor_file import TensorFile
from effnetv2_jax.model.provenance import CARD

_CHECKPOINTS = "checkpoints"
_STATE = "state"


@contextlib.contextmanager
def open_run(path: epath.PathLike, *, moving_average: bool) -> Iterator[TensorFile]:
    """Opens the newest checkpoint of a run; names are our paths, as in `params/stem_conv/kernel`.

    Args:
      path: the run's folder, its folder of checkpoints, or one checkpoint; `gs://` too.
      moving_average: whether to read the averages over the training steps; a run that keeps none gives its raw weights.

    Raises:
      ValueError: for a damaged checkpoint.
      FileNotFoundError: if there is none.
    """
    step = _newest_step(_absolute(epath.Path(path)))
    try:
        averaged, tensors = _load(step, moving_average)
    except Exception as error:  # whatever Orbax and tensorstore raise: they have no class for it
        raise ValueError(f"{step} is damaged or no checkpoint of ours: {str(error).splitlines()[0]}") from error
    facts = {"averaging": "averaged" if averaged else "raw"}
    yield TensorFile({name: value.shape for name, value in tensors.items()}, tensors.__getitem__, _card(step) | facts)


def _absolute(path: epath.Path) -> epath.Path:
    """Returns the path that Orbax wants; `gs://…` already is one."""
    return path if "://" in str(path) else path.expanduser().resolve()


def _newest_step(path: epath.Path) -> epath.Path:
    """Returns the folder of the checkpoint with the highest step that is committed."""
    if _is_checkpoint(path):
        return path
    folder = path / _CHECKPOINTS if (path / _CHECKPOINTS).is_dir() else path
    steps = [step for step in folder.iterdir() if step.name.isdigit()] if folder.is_dir() else []
    for step in sorted(steps, key=lambda step: int(step.name), reverse=True):
        if _is_checkpoint(step):
            return step
    raise FileNotFoundError(f"{path} holds no checkpoint of a run")


def _is_checkpoint(path: epath.Path) -> bool:
    return (path / _STATE).is_dir() and (path / "_CHECKPOINT_METADATA").exists()


def _load(step: epath.Path, moving_average: bool) -> tuple[bool, dict[str, np.ndarray]]:
    """Returns whether averages were read, and parameters and statistics by path."""
    from orbax.checkpoint import v1 as ocp

    saved = ocp.checkpointables_metadata(str(step)).metadata[_STATE]
    averaged = moving_average and bool(saved.get("ema_params"))
    names = {f"ema_{key}" if averaged else key: key for key in ("params", "batch_stats")}
    wanted = {name: jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), saved[name]) for name in names}
    context = ocp.Context()
    context.pytree_options.loading.partial_load = True
    with context:
        state = ocp.load_checkpointables(str(step), {_STATE: wanted})[_STATE]
    leaves = jax.tree_util.tree_leaves_with_path({key: state[name] for name, key in names.items()})
    return averaged, {"/".join(key.key for key in keys): leaf for keys, leaf in leaves}


def _card(step: epath.Path) -> dict[str, str]:
    """Returns what the run says of its weights; nothing where it has no card."""
    card = step.parent.parent / CARD
    if not card.exists():
        return {}
    try:
        facts: Any = json.loads(card.read_text())
    except ValueError as error:
        raise ValueError(f"{card} is damaged: {error}") from error
    if not (isinstance(facts, dict) and all(isinstance(fact, str) for fact in facts.values())):
        raise ValueError(f"{card} must hold one object of strings")
    return facts
