"""Stand-ins for `gcloud` and `xpk` that record their arguments and return prepared answers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parent.parent.parent

_PROGRAM = """#!{python} -SE
import json, os, pathlib, sys, time
folder, arguments = pathlib.Path({folder!r}), sys.argv[1:]
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps([pathlib.Path(sys.argv[0]).name, *arguments]) + "\\n")
with (folder / "processes").open("a") as processes:
    print(os.getpid(), file=processes)
for verb, answers in json.loads((folder / "answers").read_text()).items():
    if verb in " ".join(arguments):
        counter = folder / verb.replace("/", "_")
        nth = len(counter.read_text()) if counter.exists() else 0
        counter.write_text("x" * (nth + 1))
        code, text, *awaited = answers[min(nth, len(answers) - 1)]
        for other, calls in awaited:
            while not (folder / other).exists() or len((folder / other).read_text()) < calls:
                time.sleep(0.01)
        print(text, file=sys.stderr if code else sys.stdout)
        sys.exit(code)
"""


def hang_up_by_default() -> None:
    """Lets SIGHUP end a script again; a shell cannot trap it if the tests were started by nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Cloud:
    """Runs launch scripts with the stand-ins first in the PATH.

    Attributes:
      answers: part of a command line → the answers to its calls, one after another, as (exit code, text). The last
        answer is repeated. An answer (exit code, text, (part, calls)) is given after so many calls with another part.
    """

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, list[tuple[int, str] | tuple[int, str, tuple[str, int]]]] = {}
        self._folder = folder
        for name in ("gcloud", "xpk"):
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(_PROGRAM.format(python=sys.executable, folder=str(folder)))
            program.chmod(0o755)

    def start(self, script: str, *arguments: str, root: Path = ROOT, **environment: str) -> subprocess.Popen:
        (self._folder / "answers").write_text(json.dumps(self.answers))
        path = f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            [root / "launch" / script, *arguments],
            env=os.environ | {"PATH": path, "POLL_SECONDS": "0", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            preexec_fn=hang_up_by_default,
        )

    def run(self, script: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
        with self.start(script, *arguments, **options) as process:
            try:
                output, errors = process.communicate(timeout=60)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    @property
    def calls(self) -> list[list[str]]:
        """The words of the command line of each call."""
        record = self._folder / "calls"
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    @property
    def verbs(self) -> list[str]:
        """The group and verb of each call for a TPU, such as `tpu-vm create` or `queued-resources delete`."""
        return [" ".join(call[3:5]) for call in self.calls if call[1] == "compute"]

    @property
    def alive(self) -> list[int]:
        """The stand-ins that still run after at most five seconds: a process that was killed takes a moment to end."""
        processes = [int(process) for process in (self._folder / "processes").read_text().split()]
        deadline = time.monotonic() + 5
        while (alive := [process for process in processes if runs(process)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        return alive


def runs(process: int) -> bool:
    """Returns whether a process has not ended yet; one that nobody has waited for has."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def cloud(tmp_path) -> Cloud:
    return Cloud(tmp_path)
