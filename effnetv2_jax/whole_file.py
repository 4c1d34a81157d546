"""Whole files: they appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from effnetv2_jax.paths import absolute, in_bucket


def make_parent(path: epath.PathLike) -> None:
    """Makes the folder of a file that a command will write, before it does its work.

    Raises:
      OSError: if it cannot be made.
    """
    absolute(path).parent.mkdir(parents=True, exist_ok=True)


def write_whole(path: epath.Path, content: bytes, suffix: str = "tmp") -> None:
    """Writes or replaces a file. If that fails, the file is as it was before.

    Args:
      path: the file.
      content: its new content.
      suffix: ends the name of the temporary file beside it. Processes that may write at once must pass different ones.

    Raises:
      OSError: if it fails, whatever the class of the file system's own error; the message is one line.
    """
    with as_os_error(path):
        if in_bucket(path):  # an upload that fails leaves no object, and one that succeeds replaces the old one
            path.write_bytes(content)
            return
        target = Path(path)
        temporary = target.with_name(f"{target.name}.{suffix}")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


@contextlib.contextmanager
def as_os_error(path: epath.Path) -> Iterator[None]:
    """A context whose errors become an OSError that names the path. Clients of buckets have no common class of them.

    Raises:
      OSError: for any error within the context.
    """
    try:
        yield
    except Exception as error:
        system = error.strerror if isinstance(error, OSError) else None
        reason = system or next(iter(str(error).splitlines()), type(error).__name__)
        raise OSError(f"{path} could not be written: {reason}") from error
