"""Every shell script passes shellcheck, and none uses eval."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launch.conftest import ROOT

SCRIPTS = sorted([*(ROOT / "launch").rglob("*.sh"), ROOT / ".ci/run"])
SHELLCHECK = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is in the extra `test`")
def test_scripts_pass_shellcheck():
    done = subprocess.run([SHELLCHECK, *SCRIPTS], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_remove_no_lock_and_end_no_process_by_its_name(script):
    text = script.read_text()
    assert not re.search(r"\brm\b.*lock|\bunlink\b|\bpkill\b|\bkillall\b|\bfuser\b", text)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_are_strict_and_do_not_use_eval(script):
    text = script.read_text()
    assert not re.search(r"\beval\b", text)
    if text.startswith("#!"):
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "\nset -euo pipefail\n" in text
