"""Reads weights from the folder of a training run, without the trainer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from etils import epath

from effnetv2_jax.convert.formats.tensor_file import TensorFile
from effnetv2_jax.model.provenance import CARD
from effnetv2_jax.untrusted_json import MAX_JSON_BYTES, parse_json

CHECKPOINTS = "checkpoints"
"""The folder in a run folder that contains one folder for each checkpoint, named by its step."""

_COMMITTED = "_CHECKPOINT_METADATA"  # Orbax writes this file into the folder of a checkpoint


def is_run(path: epath.Path) -> bool:
    """Whether a path is the folder of a run, its folder of checkpoints, or one checkpoint."""
    if not path.is_dir():
        return False
    if any((path / name).exists() for name in (CARD, CHECKPOINTS, _COMMITTED)):
        return True
    return any((step / _COMMITTED).exists() for step in path.iterdir() if step.name.isdigit())


@contextlib.contextmanager
def open_run(path: epath.PathLike, *, moving_average: bool) -> Iterator[TensorFile]:
    """Opens the newest checkpoint of a run. Tensors are named by paths such as `params/stem_conv/kernel`.

    Args:
      path: the run's folder, its folder of checkpoints, or one checkpoint; `gs://` paths work too.
      moving_average: whether to read the averaged weights; a run without averages gives its raw ones.

    Raises:
      ValueError: for a damaged checkpoint.
      FileNotFoundError: if there is no checkpoint.
    """
    # Imported here, because it imports Orbax, which takes seconds.
    from effnetv2_jax.train.checkpoint.checkpoints import find_checkpoints

    checkpoints, step = find_checkpoints(path)
    try:
        averaged, tensors = checkpoints.read_weights(step, moving_average=moving_average)
    except ValueError as error:
        older = ", ".join(str(checkpoints.path(other)) for other in checkpoints.older(step)) or "none"
        raise ValueError(f"{error}; older checkpoints: {older}") from error
    metadata = read_card(checkpoints.path(step)) | {"averaging": "averaged" if averaged else "raw"}
    yield TensorFile({name: value.shape for name, value in tensors.items()}, tensors.__getitem__, metadata)


def read_card(checkpoint: epath.Path) -> dict[str, str]:
    """Returns the provenance of a run's weights as metadata, which is empty if the run has no card.

    Args:
      checkpoint: the folder of one of the run's checkpoints.

    Raises:
      ValueError: if the card is damaged.
    """
    card = checkpoint.parent.parent / CARD
    if not card.exists():
        return {}
    try:
        with card.open("rb") as file:
            metadata: Any = parse_json(file.read(MAX_JSON_BYTES + 1))
    except ValueError as error:
        raise ValueError(f"{card} is damaged: {error}") from error
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise ValueError(f"{card} must contain one object of strings")
    return metadata
