"""The launch commands of the documentation, each run with --dry-run."""

import re
import shlex

import pytest
from launch.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted(
    {
        tuple(words)
        for page in PAGES
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if (words := shlex.split(line, comments=True)) and re.match(r"launch/(tpu/|xpk)", words[0])
    }
)


def test_the_documentation_shows_every_script():
    shown = {words[0] for words in COMMANDS}
    scripts = {"create", "setup", "run", "log", "stop", "delete", "supervise"}
    assert shown == {"launch/xpk.sh", *(f"launch/tpu/{name}.sh" for name in scripts)}


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_the_commands_of_the_documentation_work_with_dry_run(cloud, words):
    done = cloud.run(words[0].removeprefix("launch/"), "--dry-run", *words[1:])
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert cloud.calls == []
