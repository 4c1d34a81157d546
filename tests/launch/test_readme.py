"""The launch commands in the README, each run with --dry-run."""

import re
import shlex

import pytest
from launch.conftest import ROOT

TEXT = (ROOT / "README.md").read_text().replace("\\\n", " ")
COMMANDS = [
    words
    for line in re.findall(r"^    (launch/(?:tpu/|xpk).*)$", TEXT, re.MULTILINE)
    if (words := shlex.split(line, comments=True))
]


def test_the_readme_shows_every_script():
    shown = {words[0] for words in COMMANDS}
    scripts = {"create", "setup", "run", "log", "stop", "delete", "supervise"}
    assert shown == {"launch/xpk.sh", *(f"launch/tpu/{name}.sh" for name in scripts)}


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_command_in_the_readme_works(cloud, words):
    done = cloud.run(words[0].removeprefix("launch/"), "--dry-run", *words[1:])
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert cloud.calls == []
