# shellcheck shell=bash
# Sourced before training on a TPU: the only home of XLA's and libtpu's flags and of such variables. What the caller has
# already set wins.

# A machine whose TPU does not come up (another process holds it, libtpu is missing) stops, and never trains on its CPU.
export JAX_PLATFORMS="${JAX_PLATFORMS:-tpu,cpu}"

# libtpu's and TensorFlow's start-up notices would drown the stage table and the first losses: errors only.
export TPU_MIN_LOG_LEVEL="${TPU_MIN_LOG_LEVEL:-2}"
export TPU_STDERR_LOG_LEVEL="${TPU_STDERR_LOG_LEVEL:-2}"
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"

# Each line reaches the log when it is printed, so that following it shows where the run is.
export PYTHONUNBUFFERED="${PYTHONUNBUFFERED:-1}"

# LIBTPU_INIT_ARGS and XLA_FLAGS are left alone: no flag has been measured to make these networks faster, and JAX adds
# what it needs itself. A flag is added here, with its measurement.
