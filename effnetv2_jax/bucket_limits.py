"""Limits of the clients of `gs://`, so that a bucket that does not answer stops a run instead of hanging it.

A request that fails with 429 or 5xx, or whose connection breaks, is tried again by the client itself: by TensorFlow,
which reads and writes single files, 10 times within about 3 minutes, and by tensorstore, which reads and writes
arrays, 32 times within about 15 minutes. Both wait twice as long each time, up to 32 seconds, and add jitter.
"""

import os

# Environment variable → its value. Each is read once, when the library that it belongs to is loaded or first used.
LIMITS = {
    # tensorstore would wait for ever for the answer to a request. Now it tries again after 30 seconds in which less
    # than one byte a second has moved. Source: https://github.com/google/tensorstore/issues/291
    "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "30",
    "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES": "1",
    # TensorFlow would try again after 60 seconds.
    "GCS_REQUEST_IDLE_TIMEOUT_SECS": "30",
}


def set_limits() -> None:
    """Sets the limits for this process, except those that the user has set."""
    for name, value in LIMITS.items():
        os.environ.setdefault(name, value)
