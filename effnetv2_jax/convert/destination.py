"""Where weights are written to: a local file or folder, a bucket, or a repository on the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from etils import epath

from effnetv2_jax.convert.atomic_write import replacing
from effnetv2_jax.convert.formats.run_folder import is_run
from effnetv2_jax.convert.weight_file import PathLike
from effnetv2_jax.paths import in_bucket
from effnetv2_jax.pretrained import hub
from effnetv2_jax.pretrained.hub_address import HubAddress, hub_address, in_hub
from effnetv2_jax.whole_file import write_whole

CARD_FILE = "README.md"


def is_folder(path: PathLike) -> bool:
    """Whether a path means a Hugging Face folder: a repository, an existing folder, or a name without suffix."""
    if in_hub(path):
        return not hub_address(path).file
    return _place(path).is_dir() or not suffix(path)


def suffix(path: PathLike) -> str:
    """Returns the suffix of the file that a path means, such as `.safetensors`."""
    return PurePosixPath(hub_address(path).file if in_hub(path) else path).suffix


def is_run_folder(path: PathLike) -> bool:
    """Whether a path is the folder of a run, which has its own `config.json`."""
    return not in_hub(path) and is_run(epath.Path(_place(path)))


def _place(path: PathLike) -> epath.Path:
    return epath.Path(path) if in_bucket(path) else Path(path)


@contextlib.contextmanager
def appearing(path: PathLike, *, private: bool = False) -> Iterator[Path]:
    """Yields a temporary local path, at which the caller makes a file or a folder of files.

    Leaving the context without an error brings it to `path`; after an error, `path` is as it was before. A repository
    gets all files in one commit, and a bucket gets one file after another.

    Args:
      path: a local path, `gs://…`, or `hf://OWNER/REPOSITORY[/FILE.safetensors][@BRANCH]`.
      private: whether a repository that does not exist yet is made private.

    Raises:
      OSError: if the destination cannot be written to.
    """
    if not in_bucket(path):
        with replacing(Path(path)) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix="effnetv2_") as folder:
        made = Path(folder) / "made"
        yield made
        if in_hub(path):
            _upload(hub_address(path), made, private)
        else:
            _copy(epath.Path(path), made)


def _upload(address: HubAddress, made: Path, private: bool) -> None:
    if address.file:
        file, folder = made, made.with_name("upload")
        (folder / address.file).parent.mkdir(parents=True)
        file.replace(folder / address.file)
        made = folder
    elif (made / CARD_FILE).exists() and hub.has_file(address, CARD_FILE):
        (made / CARD_FILE).unlink()  # its owner may have edited the one that is there
    hub.upload_folder(HubAddress(address.repository, "", address.revision), made, "Add weights", private=private)


def _copy(path: epath.Path, made: Path) -> None:
    if made.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        for file in sorted(made.iterdir()):
            write_whole(path / file.name, file.read_bytes())
    else:
        write_whole(path, made.read_bytes())
