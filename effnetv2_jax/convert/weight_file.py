"""Finds the format of weights at a local or remote path, and opens them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from etils import epath

from effnetv2_jax.convert.formats.h5_file import H5_SUFFIXES, open_h5
from effnetv2_jax.convert.formats.huggingface_folder import WEIGHTS, folder_files, open_folder
from effnetv2_jax.convert.formats.pth_file import PTH_SUFFIXES, open_pth
from effnetv2_jax.convert.formats.run_folder import is_run, open_run
from effnetv2_jax.convert.formats.safetensors_file import open_safetensors
from effnetv2_jax.convert.formats.tensor_file import TensorFile
from effnetv2_jax.convert.formats.tensorflow_checkpoint import checkpoint_files, is_checkpoint, open_checkpoint
from effnetv2_jax.convert.frameworks.framework import FormatName, Framework
from effnetv2_jax.convert.remote_copy import local_copy
from effnetv2_jax.paths import in_bucket

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Format:
    """A format that weights come in.

    Attributes:
      name: its name.
      description: its name in error messages.
      in_folder: what a folder with such weights contains; empty if the format is that of a file.
      matches: whether an existing path, or the prefix of existing files, is of this format.
      open: opens a local path, and also a remote one if `files` is None.
      files: the files that `open` reads, which are copied from a remote path; None if `open` reads remote paths itself.
    """

    name: FormatName
    description: str
    in_folder: str
    matches: Callable[[epath.Path], bool]
    open: Callable[[Any, bool], AbstractContextManager[TensorFile]]
    files: Callable[[epath.Path], Sequence[epath.Path]] | None


_FORMATS = (
    Format(
        "huggingface",
        f"a folder with {WEIGHTS}",
        WEIGHTS,
        lambda path: (path / WEIGHTS).exists(),
        lambda path, _: open_folder(path),
        folder_files,
    ),
    Format(
        "checkpoint",
        "a TensorFlow checkpoint (an archive, a folder or a prefix)",
        "a TensorFlow checkpoint (NAME.index)",
        is_checkpoint,
        lambda path, moving_average: open_checkpoint(path, moving_average=moving_average),
        checkpoint_files,
    ),
    Format(
        "run",
        "the folder of a training run",
        "a training run (checkpoints/)",
        is_run,
        lambda path, moving_average: open_run(path, moving_average=moving_average),
        None,
    ),
    Format(
        "safetensors",
        "a .safetensors file",
        "",
        lambda path: path.suffix == ".safetensors",
        lambda path, _: open_safetensors(path),
        lambda path: [path],
    ),
    Format(
        "pth",
        f"a {' or '.join(PTH_SUFFIXES)} file",
        "",
        lambda path: path.suffix in PTH_SUFFIXES,
        lambda path, moving_average: open_pth(path, moving_average=moving_average),
        lambda path: [path],
    ),
    Format(
        "h5",
        "an .h5 file of Keras",
        "",
        lambda path: path.suffix in H5_SUFFIXES,
        lambda path, _: open_h5(path),
        lambda path: [path],
    ),
)


@contextlib.contextmanager
def open_weight_file(
    path: PathLike, framework: Framework | None, *, moving_average: bool
) -> Iterator[tuple[FormatName, TensorFile]]:
    """Opens weights and yields their format and the open file.

    Remote files are copied to a temporary folder first. Only the run format is read in place.

    Args:
      path: a file, a folder or the prefix of a TensorFlow checkpoint; `gs://` paths work too.
      framework: the framework of the weights; None if it is not known.
      moving_average: whether to read averaged weights if there are averaged and raw ones.

    Raises:
      FileNotFoundError: if `path` does not exist, or is a folder without weights of the framework.
      ValueError: for an unknown format, a format that the framework does not use, or a damaged file.
    """
    place = epath.Path(path) if in_bucket(path) else Path(path).expanduser()
    if not (place.exists() or is_checkpoint(place)):
        raise FileNotFoundError(f"{path} does not exist")
    found = _format_of(place, framework)
    local: AbstractContextManager[Any] = contextlib.nullcontext(place)
    if in_bucket(place) and found.files:
        local = local_copy(place, found.files(place))
    with local as readable, found.open(readable, moving_average) as file:
        yield found.name, file


def _format_of(path: epath.Path, framework: Framework | None) -> Format:
    found = next((known for known in _FORMATS if known.matches(path)), None)
    if found is not None and (framework is None or found.name in framework.formats):
        return found
    allowed = [known for known in _FORMATS if framework is None or known.name in framework.formats]
    owner = f"{framework.name} weights" if framework else "weights"
    if path.is_dir():
        sought = ", ".join(known.in_folder for known in allowed if known.in_folder)
        files = sorted(
            file.name for file in path.iterdir() if file.suffix in (".safetensors", *PTH_SUFFIXES, *H5_SUFFIXES)
        )
        hint = f"; give the path of a file in it, such as {files[0]}" if files else ""
        raise FileNotFoundError(f"{path} contains no {owner}; looked for {sought}{hint}")
    raise ValueError(f"{path}: {owner} come as {', '.join(known.description for known in allowed)}")
