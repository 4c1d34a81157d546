"""What pip would install on another machine: requirements resolved for its Python and its packages."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parent.parent
UNREACHABLE = ("error sending request", "Failed to fetch", "Connect")


def uv(*arguments: str | Path) -> subprocess.CompletedProcess:
    """Runs uv. Skips the test if the package registry cannot be reached."""
    environment = os.environ | {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run([find_uv_bin(), *arguments], env=environment, capture_output=True, text=True)
    if done.returncode and any(word in done.stderr for word in UNREACHABLE):
        pytest.skip("the package registry cannot be reached")
    return done


def resolve(
    folder: Path, python: str, extras: Sequence[str], *options: str, more: Sequence[str] = (), pins: Sequence[str] = ()
) -> dict[str, str]:
    """Returns package → version of what the project and its extras install on Linux, x86-64.

    Args:
      folder: an empty folder.
      python: version of Python, such as "3.13".
      extras: extras of the project.
      options: further options of `uv pip compile`.
      more: further requirements.
      pins: exact versions of packages that stay as they are.
    """
    (folder / "more.in").write_text("\n".join(more))
    (folder / "pins.txt").write_text("\n".join(pins))
    done = uv(
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate"),
        *("--python-version", python, "--python-platform", "x86_64-manylinux_2_35"),
        *(word for extra in extras for word in ("--extra", extra)),
        *("--constraint", folder / "pins.txt", *options, ROOT / "pyproject.toml", folder / "more.in"),
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split("==") for line in done.stdout.split() if "==" in line)
