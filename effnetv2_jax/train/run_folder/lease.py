"""A lease on a run folder: an owner file that its owner renews, where files cannot be locked."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import uuid
from collections.abc import Callable

from etils import epath

from effnetv2_jax.train.run_folder.owner_record import owner_in, record_of_this_process, token_in
from effnetv2_jax.whole_file import write_whole


class FolderInUse(ValueError):
    """Another process writes into the run folder."""

    def __init__(self, folder: epath.Path, content: str) -> None:
        """Makes the message for a folder whose owner file has some content."""
        super().__init__(
            f"{folder} is in use by {owner_in(content)}; stop that process first, or use another --workdir"
        )


class OwnershipLost(RuntimeError):
    """Another process may write into the run folder now, so this one must not."""


@dataclasses.dataclass(frozen=True)
class LeaseTimes:
    """The durations of a lease in seconds, and the clock that measures them.

    Attributes:
      length: how long an owner file without a change keeps others out. They measure it with their own clock.
      renewal: time between two renewals.
      settling: time between writing an owner file and reading it again. Of several processes that start at once, the
        one whose content is there wins.
      clock: returns the seconds since some moment.
      sleep: waits for a number of seconds.
    """

    length: float = 60.0
    renewal: float = 15.0
    settling: float = 3.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Lease:
    """The right to write into a folder, as a context. A thread renews it, and leaving the context ends it.

    A file system without locks and conditional writes cannot exclude every race. If an owner's file is overwritten, the
    owner finds out at its next renewal, and `check` then raises an error.
    """

    def __init__(self, path: epath.Path, times: LeaseTimes | None = None) -> None:
        """Does nothing yet; `path` is the owner file."""
        self._path = path
        self._times = times or LeaseTimes()
        self._token = uuid.uuid4().hex
        self._content = record_of_this_process(self._token)
        self._renewals = 0
        self._renewed = 0.0
        self._lost = ""
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_ended, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """Takes the lease. If there is an owner file already, this waits until a lease's length has passed.

        Raises:
          ValueError: if another process has renewed or taken the lease; the message names the process.
        """
        if content := self._read():
            self._wait_for_end_of(content)
        self._renewed = self._times.clock()
        self._write()
        self._times.sleep(self._times.settling)
        content = self._read()
        if token_in(content) != self._token:
            raise FolderInUse(self._path.parent, content)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(self._times.renewal)
        try:
            if not self._thread.is_alive() and token_in(self._read()) == self._token:
                self._path.unlink()
        except Exception as error:  # the run's result stands, and the next start only waits longer
            logging.getLogger(__name__).warning("%s is not removed: %s", self._path, error)

    def check(self) -> None:
        """Checks that this process may still write. It asks the file system only if a renewal is overdue.

        Raises:
          OwnershipLost: if another process has taken over, or could have, because no renewal has succeeded for the
            length of a lease.
        """
        if not self._lost and self._is_over():
            self.renew()
        if self._lost:
            raise OwnershipLost(self._lost)

    def renew(self) -> None:
        """Renews the lease, or finds that it is lost. A failure counts only once the lease's length has passed."""
        if not self._renewing.acquire(timeout=self._times.renewal):
            self._fail("a renewal hangs")
            return
        try:
            self._renew()
        except Exception as error:  # the errors of file systems and buckets have no common class
            self._fail(str(error))
        finally:
            self._renewing.release()

    def _renew(self) -> None:
        started = self._times.clock()
        content = self._read()
        if content and token_in(content) != self._token:
            self._lost = f"{owner_in(content)} has taken over {self._path.parent}, so this process stops"
        elif not self._lost:
            self._write()
            self._renewed = started

    def _fail(self, reason: str) -> None:
        if self._is_over():
            self._lost = (
                f"{self._path} could not be renewed for {self._times.length:g} s, so this process stops before another "
                f"takes over {self._path.parent}: {reason}"
            )

    def _is_over(self) -> bool:
        return self._times.clock() - self._renewed > self._times.length

    def _renew_until_ended(self) -> None:
        while not self._lost and not self._ended.wait(self._times.renewal):
            self.renew()

    def _wait_for_end_of(self, content: str) -> None:
        """Waits until a lease's length has passed without a change of the owner file, or the file is gone.

        Raises:
          ValueError: if the file changes.
        """
        times, folder = self._times, self._path.parent
        print(f"waiting up to {times.length:g} s: {folder} was in use by {owner_in(content)}", flush=True)
        started = times.clock()
        while times.clock() - started <= times.length:
            times.sleep(times.renewal / 3)
            now = self._read()
            if not now:
                return
            if now != content:
                raise FolderInUse(folder, now)

    def _read(self) -> str:
        """Returns the content of the owner file, or "" if it does not exist."""
        try:
            return self._path.read_text() if self._path.exists() else ""
        except FileNotFoundError:
            return ""

    def _write(self) -> None:
        """Writes an owner file that differs from the one before it."""
        self._renewals += 1
        content = self._content.replace("{", f'{{"renewals": {self._renewals}, ', 1)
        write_whole(self._path, content.encode(), suffix=f"{self._token}.tmp")
