# shellcheck shell=bash
# Sourced before training on a TPU. Environment variables of JAX, XLA, libtpu and TensorFlow are set here and nowhere
# else. A variable that is already set keeps its value.

# If the TPU is not available (another process uses it, or libtpu is missing), JAX stops with an error instead of
# training on the CPU.
export JAX_PLATFORMS="${JAX_PLATFORMS:-tpu,cpu}"

# Shows only errors of libtpu and TensorFlow. Their start-up messages would hide the table of stages and the first
# losses.
export TPU_MIN_LOG_LEVEL="${TPU_MIN_LOG_LEVEL:-2}"
export TPU_STDERR_LOG_LEVEL="${TPU_STDERR_LOG_LEVEL:-2}"
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"

# Writes each line to the log at once, so that the log shows the current step.
export PYTHONUNBUFFERED="${PYTHONUNBUFFERED:-1}"

# LIBTPU_INIT_ARGS and XLA_FLAGS are not set. JAX adds the flags that it needs, and no other flag has made these
# networks faster in a measurement. A new flag belongs here, together with its measurement.
