"""Keeps the start-up messages and deprecation warnings of other packages off the terminal."""

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax


def silence_libraries() -> None:
    """Shows the project's own log lines, and hides start-up messages and deprecation warnings of other packages."""
    # TensorFlow reads this variable when it is imported, and `data.cpu_tensorflow` sets its log level. oneDNN prints
    # several lines at start-up. It speeds up only convolutions and matrix products, which the input pipeline lacks.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # Orbax logs the traceback of an error through absl, and leaves those of its other tasks to asyncio, which logs them
    # whenever it notices. The error itself is raised.
    for name in ("absl", "orbax", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("huggingface_hub").propagate = False  # it prints its lines itself
    logging.getLogger("effnetv2_jax").setLevel(logging.INFO)
    sys.unraisablehook = _show_unraisable
    if not jax.config.values["jax_platforms"] and libtpu_is_alone(Path("/dev")):
        jax.config.update("jax_platforms", "cpu")


@contextlib.contextmanager
def native_messages_held() -> Iterator[None]:
    """A context that holds back what libraries print to the native error stream, and prints it only after an error."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            yield
        except BaseException:
            messages.seek(0)
            os.write(kept, messages.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def import_tensorflow_with_onednn() -> None:
    """Imports TensorFlow with oneDNN, its default, for a fair comparison.

    TensorFlow prints the notice that oneDNN is on before it reads its log level.
    """
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    with native_messages_held():
        importlib.import_module("effnetv2_jax.data.cpu_tensorflow")


def _show_unraisable(unraisable: Any) -> None:
    """Shows an error that Python cannot raise, except that of Orbax's event loop after a save that has failed.

    The error of the save itself is raised.
    """
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def libtpu_is_alone(devices: Path) -> bool:
    """Returns whether libtpu is installed on a machine that has no TPU, and JAX has no plugin for another accelerator.

    JAX would start libtpu, which prints five lines about the missing TPU and then fails. No setting of its log level
    hides them. A TPU's chips are `/dev/accel*` up to TPU v4, and `/dev/vfio/*` since TPU v5.

    Args:
      devices: the folder of the machine's device files.
    """
    installed = {package for package in ("libtpu", "jax_plugins") if importlib.util.find_spec(package)}
    return installed == {"libtpu"} and not [*devices.glob("accel*"), *devices.glob("vfio/*")]
