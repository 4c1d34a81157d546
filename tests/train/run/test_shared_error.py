"""An error of the first process: all processes raise it."""

import os
import socket
import subprocess
import sys

import jax
import pytest
from train.run.processes import ROOT

from effnetv2_jax.train.run.processes import share_first_error

PROCESS = """
import sys
from effnetv2_jax.train.run.processes import Membership, join, share_first_error

class Own(FloatingPointError):
    pass

def fail(error):
    raise error

join(Membership(sys.argv[1], 2, int(sys.argv[2])))
kinds = (Own, ValueError, OSError)
for error in (ValueError("4 → 5"), FileNotFoundError("no file"), Own("own"), KeyError("other"), ValueError("é" * 3000)):
    try:
        share_first_error(lambda: fail(error), kinds)
    except Exception as raised:
        print(type(raised).__name__, str(raised)[:10], len(str(raised)))
print(share_first_error(lambda: 7))
"""


def test_all_processes_raise_the_error_of_the_first():
    """A class outside the list becomes a RuntimeError in the other process, and a long text is cut there."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, f"localhost:{port}", str(index)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        )
        for index in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    first, second = ([line for line in out.splitlines() if not line.startswith("[Gloo]")] for out, _ in said)
    assert first == [
        "ValueError 4 → 5 5", "FileNotFoundError no file 7", "Own own 3", "KeyError 'other' 7",
        "ValueError éééééééééé 3000", "7",
    ]  # fmt: skip
    assert second == [
        "ValueError 4 → 5 5", "OSError no file 7", "Own own 3", "RuntimeError 'other' 7",
        "ValueError éééééééééé 1023", "None",
    ]  # fmt: skip


def test_a_single_process_raises_its_error_and_returns_its_result():
    assert jax.process_count() == 1
    assert share_first_error(lambda: 7) == 7
    with pytest.raises(KeyError, match="other"):
        share_first_error(lambda: {}["other"])
