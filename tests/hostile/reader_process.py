"""A child process that reads inputs, so that a crash, a hang and the memory that a reader takes can be told."""

from __future__ import annotations

import ctypes
import dataclasses
import multiprocessing
import os
import re
import resource
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hostile.readers import Reader

SLACK = 1 << 31  # address space for threads and what allocators reserve; it is not used
SECONDS = 120  # an input that takes longer is a hang, also on a machine that does other things


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
      kind: `read`, `refused` with an error of ours, or `escaped` with any other.
      value: what the reader returned, or the error's class and message.
      peak: bytes by which the process's memory has exceeded that after its first, valid input.
    """

    kind: str
    value: Any
    peak: int


class ReaderProcess:
    """Reads inputs in a process of limited memory.

    Attributes:
      valid: what became of the valid input that it was made with.
      seconds: how long it may take for an input.
    """

    def __init__(self, reader: Reader, valid: bytes) -> None:
        self._reader, self._first = reader, valid
        self._start()

    def _start(self) -> None:
        self.seconds = 10 * SECONDS
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, self._reader), daemon=True)
        self._process.start()
        child.close()
        self.valid = self.read(self._first)  # imports the modules that the reader needs
        self.seconds = SECONDS

    def read(self, data: bytes) -> Outcome:
        """Returns what became of an input. A crash and a hang fail the test, which names a file with the input."""
        if not self._process.is_alive():  # it has crashed or hung; Hypothesis reads the same input again
            self._start()
        try:
            self._pipe.send_bytes(data)
            if not self._pipe.poll(self.seconds):
                self.stop()
                raise AssertionError(f"the reader hung for {self.seconds} s on {_kept(data)}")
            return self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            text = f"the reader crashed with exit code {self._process.exitcode} on {_kept(data)}"
            raise AssertionError(text) from error

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


def _kept(data: bytes) -> str:
    """Writes an input into a file that stays, and returns its path."""
    with tempfile.NamedTemporaryFile(prefix="hostile_input_", delete=False) as file:
        file.write(data)
    return file.name


def _serve(pipe: Connection, reader: Reader) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the libraries write lines about damaged images
    with tempfile.TemporaryDirectory() as folder:
        base = None
        while True:
            try:
                data = pipe.recv_bytes()
            except EOFError:
                return
            kind, value = _attempt(reader.read, Path(folder), data, reader.errors())
            peak = _peak()
            if base is None:  # the first input is valid: now all modules are imported
                base = peak
                _limit(reader.memory)
            pipe.send(Outcome(kind, value, peak - base))


def _peak() -> int:
    """Returns the greatest memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere, the number includes the memory of the process that started this one
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _attempt(
    read: Callable[[Path, bytes], Any], folder: Path, data: bytes, errors: tuple[type[Exception], ...]
) -> tuple[str, Any]:
    try:
        return "read", read(folder, data)
    except errors as error:
        return "refused", f"{type(error).__name__}: {str(error)[:300]}"
    except BaseException as error:
        return "escaped", f"{type(error).__name__}: {str(error)[:300]}"


def _limit(memory: int) -> None:
    """Limits the address space, so that a reader that takes too much fails and does not take the machine with it."""
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory + SLACK, resource.RLIM_INFINITY))
        ctypes.CDLL(None).malloc_trim(0)
