"""TensorFlow restricted to the CPU, so that the accelerators are left to JAX. Other modules import it from here."""

import logging

import tensorflow as tf

__all__ = ["tf"]


def _set_up() -> None:
    try:
        for kind in ("GPU", "TPU"):
            tf.config.set_visible_devices([], kind)
        # Many images are prepared in parallel, so each operation and each XLA program uses one thread.
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:  # TensorFlow was used before this import, and its devices are fixed
        held = [device.name for kind in ("GPU", "TPU") for device in tf.config.list_logical_devices(kind)]
        if held:
            logging.getLogger(__name__).warning(
                "TensorFlow was started before effnetv2_jax and holds %s; JAX may find no memory there", ", ".join(held)
            )


_set_up()
