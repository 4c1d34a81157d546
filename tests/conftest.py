"""Settings for every test: two CPU devices, no implicit broadcasting of ranks, and a compilation cache."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Otherwise the OpenMP threads of parallel test processes would compete for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The official Sharpness truncates the float sum of a convolution to uint8. oneDNN adds the terms in an order that
# depends on the processor, which may change a pixel by one grey level. TensorFlow's own kernel always uses our order.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
# Many tests start processes. This keeps TensorFlow from importing Keras, which takes 1.6 s in each of them.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Each device that waits for another one in a sum holds a thread of XLA's pool, which has one for each core by default.
# On two cores, programs of two devices can so wait for each other for ever.
os.environ.setdefault("PJRT_NPROC", "8")
os.environ.setdefault("NPROC", "8")
os.environ["XLA_FLAGS"] = " ".join(
    [
        # XLA ends a process in which a device waits for another one for 40 seconds, as may happen on a busy machine.
        "--xla_cpu_collective_call_terminate_timeout_seconds=400",
        "--xla_cpu_collective_timeout_seconds=400",
        # Tests compile hundreds of small programs and run each for a moment. XLA's own passes do not change with this.
        "--xla_backend_optimization_level=0",
        os.environ.get("XLA_FLAGS", ""),  # the last one of a name counts
    ]
)

import jax
import pytest

DEVICES = 2

jax.config.update("jax_num_cpu_devices", DEVICES)
jax.config.update("jax_numpy_rank_promotion", "raise")
COMPILATION_CACHE = {
    "jax_compilation_cache_dir": str(Path(__file__).parent.parent / ".jax_cache"),
    "jax_persistent_cache_min_compile_time_secs": 0.5,
}
for name, value in COMPILATION_CACHE.items():
    jax.config.update(name, value)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference values, computed with code that this project did not write."""
    return Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Restores what a command sets for its process, here for all tests: environment variables and JAX's cache."""
    before = dict(os.environ)
    yield
    # Only what has changed is written: threads of libraries read the environment, and may crash during a write.
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    for name, value in COMPILATION_CACHE.items():
        jax.config.update(name, value)
