"""TensorFlow, restricted to the CPU: the accelerators are JAX's. Imported by the modules of `data` that read images."""

import logging

import tensorflow as tf

__all__ = ["tf"]


def _set_up() -> None:
    try:
        for kind in ("GPU", "TPU"):
            tf.config.set_visible_devices([], kind)
        # Images are prepared in parallel; an operation, and XLA's programs, within one image are not.
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:  # the program used TensorFlow before us: too late
        held = [device.name for kind in ("GPU", "TPU") for device in tf.config.list_logical_devices(kind)]
        if held:
            logging.getLogger(__name__).warning(
                "TensorFlow was started before effnetv2_jax and holds %s; JAX may find no memory there", ", ".join(held)
            )


_set_up()
