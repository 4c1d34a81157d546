"""TensorBoard event files, as bytes."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping


def event_file_name() -> str:
    """Returns a new name, by which TensorBoard finds the file and sorts it after earlier ones."""
    now = time.time_ns()
    return f"events.out.tfevents.{now // 10**9:010}.{socket.gethostname()}.{now % 10**9:09}"


def first_events(first_step: int) -> bytes:
    """Returns the start of a file. TensorBoard drops the values of `first_step` and later steps in earlier files."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    start = SessionLog(status=SessionLog.START)
    events = (Event(file_version="brain.Event:2"), Event(step=first_step, session_log=start))
    return b"".join(map(_record, events))


def scalar_event(step: int, values: Mapping[str, float]) -> bytes:
    """Returns the event of numbers by name after `step` steps."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
    return _record(Event(step=step, summary=summary))


def _record(event: object) -> bytes:
    """Returns an event as a record: its length and its bytes, each followed by its checksum.

    Source: tensorflow/core/lib/io/record_writer.h.
    """
    from tensorboardX.record_writer import masked_crc32c

    event.wall_time = time.time()  # type: ignore[attr-defined]
    data = event.SerializeToString()  # type: ignore[attr-defined]
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
