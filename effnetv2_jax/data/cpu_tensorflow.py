"""TensorFlow, restricted to the CPU: the accelerators are JAX's. Imported by the modules of `data` that read images."""

import logging

import tensorflow as tf

__all__ = ["tf"]


def _leave_accelerators_to_jax() -> None:
    for kind in ("GPU", "TPU"):
        try:
            tf.config.set_visible_devices([], kind)
        except RuntimeError:  # the program used TensorFlow before us: too late to hide anything
            if tf.config.list_logical_devices(kind):
                logging.getLogger(__name__).warning(
                    "TensorFlow was started before effnetv2_jax and holds the %ss; JAX may find no memory on them", kind
                )


_leave_accelerators_to_jax()
