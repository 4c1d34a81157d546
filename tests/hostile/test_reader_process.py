"""The process of a reader: crashes, hangs, memory and other errors than ours are noticed."""

import os
import threading
from pathlib import Path

import pytest
from hostile.reader_process import SLACK, ReaderProcess
from hostile.readers import MB, Reader


def obey(_: Path, data: bytes) -> object:
    """Does what the input says."""
    match data.decode():
        case "crash":
            os.abort()
        case "hang":
            threading.Event().wait()
        case "refuse":
            raise ValueError("no")
        case "escape":
            raise KeyError("x")
        case "fill":
            return len(bytearray(400 * MB))
        case "fill all":
            return len(bytearray(SLACK + 400 * MB))
    return data


@pytest.fixture
def process():
    made = ReaderProcess(Reader(obey, 300 * MB), b"valid")
    yield made
    made.stop()


def test_results_and_errors_are_told_apart(process):
    assert (process.valid.kind, process.valid.value) == ("read", b"valid")
    assert process.read(b"refuse").kind == "refused"
    assert (process.read(b"escape").kind, process.read(b"escape").value) == ("escaped", "KeyError: 'x'")


def test_memory_is_measured_and_limited(process):
    assert process.read(b"other").peak < 100 * MB
    assert process.read(b"fill").peak >= 399 * MB
    assert process.read(b"fill all").value.startswith("MemoryError")


def test_a_crash_is_noticed(process):
    with pytest.raises(AssertionError, match="crashed with exit code -6"):
        process.read(b"crash")


def test_a_hang_is_noticed(process):
    process.seconds = 1
    with pytest.raises(AssertionError, match="hung for 1 s"):
        process.read(b"hang")
