"""Restricts TensorFlow to the CPU, so that the accelerators are left to JAX. Other modules import `tf` from here."""

import contextlib
import logging
import os
from collections.abc import Iterator

from effnetv2_jax.bucket_limits import set_limits

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_FATAL_ONLY = "3"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """While TensorFlow is imported, sets its log level so that it logs only what ends the process.

    Otherwise it would log each broken image without its name. Its errors arrive as exceptions. Level 0 stays, so that a
    user can see everything. The level is restored, because other libraries read it too.
    """
    level = os.environ.get(_LOG_LEVEL)
    if level != "0":
        os.environ[_LOG_LEVEL] = _FATAL_ONLY
    try:
        yield
    finally:
        if level is not None:
            os.environ[_LOG_LEVEL] = level
        else:
            os.environ.pop(_LOG_LEVEL)


set_limits()
with _quiet():
    import tensorflow as tf

__all__ = ["tf"]


def _set_up() -> None:
    try:
        for kind in ("GPU", "TPU"):
            tf.config.set_visible_devices([], kind)
        # Many images are prepared in parallel, so each operation and each XLA program uses one thread.
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:  # TensorFlow was already in use, so its devices are fixed
        held = [device.name for kind in ("GPU", "TPU") for device in tf.config.list_logical_devices(kind)]
        if held:
            logging.getLogger(__name__).warning(
                "TensorFlow was started before effnetv2_jax and holds %s; JAX may find no memory there", ", ".join(held)
            )


_set_up()
