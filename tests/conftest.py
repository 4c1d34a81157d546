"""Strictness for every test: no accelerator, two devices, no silent broadcasting, and compiled programs kept."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# OpenMP and tf.data threads of parallel test processes would fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# oneDNN adds a convolution's terms in an order that differs between processors, so that the official Sharpness, which
# cuts a float sum off to a uint8, differs by one grey level; TensorFlow's own kernel has one order everywhere: ours.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import jax
import pytest

DEVICES = 2

jax.config.update("jax_num_cpu_devices", DEVICES)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference values, computed with code that this project did not write."""
    return Path(__file__).parent / "golden"
