"""launch/tpu/worker.sh, with real processes in a temporary home folder."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest
from launch.conftest import ROOT, runs

SCRIPT = ROOT / "launch/tpu/worker.sh"
SAVES = (
    "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\nprint('started')\ntime.sleep(30)"
)


@pytest.fixture
def home(tmp_path):
    (tmp_path / "effnetv2_jax" / "launch").mkdir(parents=True)
    (tmp_path / "effnetv2_jax" / "launch" / "env.sh").write_text((ROOT / "launch/env.sh").read_text())
    return tmp_path


def start(home, *arguments):
    environment = {"PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(home)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(["bash", SCRIPT, *arguments], env=environment, start_new_session=True, **pipes)


def worker(home, *arguments):
    process = start(home, *arguments)
    output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors


def wait_for(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited for 10 s")


def log(home):
    path = home / "effnetv2_run" / "log"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("code", [0, 1, 2, 75])
def test_run_returns_the_exit_code_and_the_output_of_the_command(home, code):
    words = (sys.executable, "-c", f"import os; print(os.environ['JAX_PLATFORMS'], 'a  b'); raise SystemExit({code})")
    assert worker(home, "run", *words) == (code, "tpu,cpu a  b\n", "")
    assert worker(home, "log") == (0, "tpu,cpu a  b\n", "")


def test_a_run_survives_a_broken_connection_and_is_followed_again(home):
    words = (sys.executable, "-c", SAVES)
    connection = start(home, "run", *words)
    wait_for(lambda: "started" in log(home))
    os.killpg(connection.pid, signal.SIGKILL)
    connection.communicate()
    again = start(home, "run", *words)
    assert again.stdout.readline() == "started\n"
    code, _, errors = worker(home, "run", "something", "else")
    assert code == 1
    assert "another command is running, stop it first" in errors
    assert "a command is running, so nothing is installed" in worker(home, "setup")[1]
    code, output, _ = worker(home, "stop")
    assert code == 0
    assert "stopped with exit code 75" in output
    assert again.wait(timeout=30) == 75
    again.communicate()
    assert log(home) == "started\n"  # the command was started only once


def test_the_lock_of_another_process_is_respected_and_stays(home):
    lock = home / "effnetv2_run" / "lock"
    lock.parent.mkdir()
    (lock.parent / "command").write_text("another\n")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        before = lock.stat().st_ino
        code, _, errors = worker(home, "run", "true")
        assert code == 1
        assert "another command is running, stop it first: another" in errors
        assert "a command is running, so nothing is installed" in worker(home, "setup")[1]
        assert lock.stat().st_ino == before
    assert worker(home, "run", "true")[0] == 0


def test_words_of_a_command_are_not_read_by_a_shell_again(home):
    words = ["a b", "$(touch touched)", "`touch touched`", "; touch touched #", "'", '"', "*", "\\", ""]
    code, output, _ = worker(home, "run", sys.executable, "-c", "import sys; print(sys.argv[1:])", *words)
    assert (code, output) == (0, f"{words}\n")
    assert not list(home.rglob("touched"))


def test_a_killed_command_is_reported_as_a_failure(home):
    words = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert worker(home, "run", *words)[0] == 137


IGNORES = (
    "import os, signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('started', os.getpid(), flush=True)\n"
    "time.sleep(300)"
)
CALLS = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {IGNORES!r}])"  # and ends at SIGTERM itself


@pytest.mark.parametrize(("program", "outcome"), [(IGNORES, "killed"), (CALLS, "stopped")])
def test_a_process_that_does_not_end_is_killed_if_asked(home, program, outcome):
    running = start(home, "run", sys.executable, "-c", program)
    wait_for(lambda: "started" in log(home))
    code, output, errors = worker(home, "stop", "1")
    assert code == 0, errors
    assert outcome in output
    wait_for(lambda: not runs(int(log(home).split()[1])))
    assert running.wait(timeout=30) in (1, 143)
    running.communicate()
    assert "nothing is running" in worker(home, "stop")[1]


def test_a_command_that_ends_in_time_is_not_killed(home):
    running = start(home, "run", sys.executable, "-u", "-c", SAVES)
    wait_for(lambda: "started" in log(home))
    assert "stopped with exit code 75" in worker(home, "stop", "20")[1]
    assert running.wait(timeout=30) == 75
    running.communicate()


def test_without_a_run_there_is_nothing_to_stop_and_no_log(home):
    assert "nothing is running" in worker(home, "stop")[1]
    assert worker(home, "log")[0] == 1
    assert worker(home, "fly") == (2, "", "worker.sh: unknown verb 'fly'; known: setup run log stop\n")


PROJECT = {"effnetv2_jax/new.py": "", "launch/env.sh": "", "configs/digits.py": "first", "pyproject.toml": ""}
LEFT = {"effnetv2_jax/deleted.py": "", "configs/digits.py": "old", "runs/mine/config.json": "", ".venv/kept": ""}


@pytest.fixture
def bare(home):
    """A home folder with files of an earlier setup, and stand-ins for the programs that download or need root."""
    for name in ("bin/python3", "bin/sudo", ".local/bin/uv", "effnetv2_jax/.venv/bin/effnetv2"):
        write(home, {name: "#!/bin/sh\n"})
        (home / name).chmod(0o755)
    write(home / "effnetv2_jax", LEFT)
    return home


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def repository(folder, files):
    """Makes a git repository with one commit of these files and returns its URL."""
    write(folder, files)
    author = ("-c", "user.name=n", "-c", "user.email=e")
    for words in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "--message=m"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder.as_uri()


def installed(home):
    """Returns the project's files (without git, .venv and runs) and the content of configs/digits.py."""
    project = home / "effnetv2_jax"
    names = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert ".venv/kept" in names
    assert "runs/mine/config.json" in names
    digits = (project / "configs" / "digits.py").read_text()
    return {name for name in names if not name.startswith((".git/", ".venv/", "runs/"))}, digits


def set_up(home, *arguments):
    code, output, errors = worker(home, "setup", *arguments)
    assert (code, errors) == (0, "")
    assert output.endswith(": installed\n")


def test_setup_removes_the_code_of_an_earlier_setup_and_keeps_the_runs(bare):
    write(bare / "tree", PROJECT)
    subprocess.run(["tar", "-czf", bare / "effnetv2_jax.tar.gz", "-C", bare / "tree", "."], check=True)
    set_up(bare)
    assert installed(bare) == (set(PROJECT), "first")


def test_setup_installs_a_repository_over_any_earlier_setup(bare):
    first = repository(bare / "first", PROJECT)
    second = repository(bare / "second", PROJECT | {"configs/digits.py": "second", "effnetv2_jax/own.py": ""})
    for url, expected in (
        (first, (set(PROJECT), "first")),  # over an archive
        (second, ({*PROJECT, "effnetv2_jax/own.py"}, "second")),  # over another repository
        (first, (set(PROJECT), "first")),
    ):
        set_up(bare, url)
        assert installed(bare) == expected


def test_a_missing_repository_does_not_change_the_installed_code(bare):
    before = installed(bare)
    assert worker(bare, "setup", (bare / "nowhere").as_uri())[0] != 0
    assert installed(bare) == before
