"""Stand-ins for `gcloud` and `xpk` that record their arguments and return prepared answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

_PROGRAM = """#!{python} -SE
import json, pathlib, sys
folder, arguments = pathlib.Path({folder!r}), sys.argv[1:]
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps([pathlib.Path(sys.argv[0]).name, *arguments]) + "\\n")
for verb, answers in json.loads((folder / "answers").read_text()).items():
    if verb in " ".join(arguments):
        counter = folder / verb.replace("/", "_")
        nth = len(counter.read_text()) if counter.exists() else 0
        counter.write_text("x" * (nth + 1))
        code, text = answers[min(nth, len(answers) - 1)]
        print(text, file=sys.stderr if code else sys.stdout)
        sys.exit(code)
"""


class Cloud:
    """Runs launch scripts with the stand-ins first in the PATH.

    Attributes:
      answers: part of a command line → the answers to its calls, one after another, as (exit code, text). The last
        answer is repeated.
    """

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, list[tuple[int, str]]] = {}
        self._folder = folder
        for name in ("gcloud", "xpk"):
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(_PROGRAM.format(python=sys.executable, folder=str(folder)))
            program.chmod(0o755)

    def run(self, script: str, *arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess:
        (self._folder / "answers").write_text(json.dumps(self.answers))
        path = f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [root / "launch" / script, *arguments],
            env=os.environ | {"PATH": path, "POLL_SECONDS": "0"},
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self._folder,
        )

    @property
    def calls(self) -> list[list[str]]:
        """The words of the command line of each call."""
        record = self._folder / "calls"
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    @property
    def verbs(self) -> list[str]:
        """The group and verb of each call, such as `tpu-vm create` or `queued-resources delete`."""
        return [" ".join(call[3:5]) for call in self.calls]


@pytest.fixture
def cloud(tmp_path) -> Cloud:
    return Cloud(tmp_path)
