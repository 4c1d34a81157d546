"""TensorBoard event files, as bytes."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from effnetv2_jax.masked_checksum import masked_crc32c


def event_file_name() -> str:
    """Returns a new name, by which TensorBoard finds the file and sorts it after earlier ones."""
    now = time.time_ns()
    return f"events.out.tfevents.{now // 10**9:010}.{socket.gethostname()}.{now % 10**9:09}"


def first_events(first_step: int) -> bytes:
    """Returns the start of a file. TensorBoard drops the values of `first_step` and later steps in earlier files."""
    from effnetv2_jax.data.cpu_tensorflow import tf

    v1 = tf.compat.v1
    start = v1.SessionLog(status=v1.SessionLog.START)
    events = (v1.Event(file_version="brain.Event:2"), v1.Event(step=first_step, session_log=start))
    return b"".join(map(_record, events))


def scalar_event(step: int, values: Mapping[str, float]) -> bytes:
    """Returns the event of numbers by name after `step` steps."""
    from effnetv2_jax.data.cpu_tensorflow import tf

    v1 = tf.compat.v1
    summary = v1.Summary(value=[v1.Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
    return _record(v1.Event(step=step, summary=summary))


def _record(event: Any) -> bytes:
    """Returns an event as a record: its length and its bytes, each followed by its checksum.

    Source: tensorflow/core/lib/io/record_writer.h.
    """
    event.wall_time = time.time()
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    checksums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]
