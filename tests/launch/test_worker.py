"""What happens on a TPU's worker, with real processes in a home of its own."""

import os
import signal
import subprocess
import sys
import time

import pytest
from launch.conftest import ROOT

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
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(["bash", SCRIPT, *arguments], env=environment, start_new_session=True, **pipes)


def worker(home, *arguments):
    process = start(home, *arguments)
    said, errors = process.communicate(timeout=30)
    return process.returncode, said, errors


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
def test_run_exits_as_the_command_does_and_shows_its_output(home, code):
    words = (sys.executable, "-c", f"import os; print(os.environ['JAX_PLATFORMS'], 'a  b'); raise SystemExit({code})")
    assert worker(home, "run", *words) == (code, "tpu,cpu a  b\n", "")
    assert worker(home, "log") == (0, "tpu,cpu a  b\n", "")


def test_a_broken_connection_leaves_the_run_and_the_same_call_follows_it(home):
    words = (sys.executable, "-c", SAVES)
    connection = start(home, "run", *words)
    wait_for(lambda: "started" in log(home))
    os.killpg(connection.pid, signal.SIGKILL)
    connection.communicate()
    again = start(home, "run", *words)
    assert again.stdout.readline() == "started\n"
    code, _, errors = worker(home, "run", "something", "else")
    assert code == 1
    assert "something else runs, stop it first" in errors
    assert "something runs here, so nothing is installed" in worker(home, "setup")[1]
    code, said, _ = worker(home, "stop")
    assert code == 0
    assert "stopped with exit code 75" in said
    assert again.wait(timeout=30) == 75
    again.communicate()
    assert log(home) == "started\n"  # it was started once


def test_a_killed_run_is_a_failure(home):
    words = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert worker(home, "run", *words)[0] == 137


def test_nothing_to_stop_and_nothing_to_show(home):
    assert "nothing runs" in worker(home, "stop")[1]
    assert worker(home, "log")[0] == 1
    assert worker(home, "fly") == (2, "", "worker.sh: unknown verb 'fly'; known: setup run log stop\n")
