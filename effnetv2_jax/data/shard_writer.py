"""Shards: files of records that appear whole or not at all."""

import contextlib
import os
import posixpath
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from etils import epath

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.sources.record_format import RECORD_FORMATS
from effnetv2_jax.paths import in_bucket
from effnetv2_jax.whole_file import as_os_error

_TEMPORARY = ".tmp-"


@contextlib.contextmanager
def new_shard(path: str, form: str) -> Iterator[Callable[[bytes], None]]:
    """A context that writes a shard, which appears at its end, whole, or not at all. It yields a function for records.

    Raises:
      OSError: if the shard cannot be written.
    """
    name = posixpath.basename(path)
    with contextlib.ExitStack() as stack:
        parent = stack.enter_context(tempfile.TemporaryDirectory()) if in_bucket(path) else posixpath.dirname(path)
        temporary = Path(parent, f"{name}{_TEMPORARY}{os.getpid()}")
        stack.callback(temporary.unlink, missing_ok=True)
        with as_os_error(epath.Path(path)):
            writer = RECORD_FORMATS[form].writer(str(temporary))

        def write(record: bytes) -> None:
            with as_os_error(epath.Path(path)):
                writer.write(record)

        try:
            yield write
        except BaseException:
            with contextlib.suppress(Exception):
                writer.close()
            raise
        with as_os_error(epath.Path(path)):
            writer.close()
            if in_bucket(path):  # an object appears when it is whole
                tf.io.gfile.copy(str(temporary), path, overwrite=True)
                return
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)


def remove_temporary_shards(folder: str) -> None:
    """Deletes from a local folder what processes that were killed left of their shards."""
    for path in Path(folder).glob(f"*{_TEMPORARY}*"):
        path.unlink(missing_ok=True)
