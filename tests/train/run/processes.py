"""Child processes that run the command line together, as several hosts would."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax

ROOT = Path(__file__).parent.parent.parent.parent
# On a CPU a collective gives up when its partners are late by 40 s, which on a busy machine they may be.
PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds=400 --xla_cpu_collective_timeout_seconds=400"


class Children:
    """Processes of one command; a context that leaves none behind."""

    def __init__(self, command: str, *arguments: str, processes: int = 2, devices: int = 1):
        """`devices` of each process."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT), "XLA_FLAGS": PATIENT
        }  # fmt: skip
        self.processes = [
            subprocess.Popen(
                [
                    sys.executable, "-m", "effnetv2_jax", command, *arguments, f"--coordinator=localhost:{port}",
                    f"--processes={processes}", f"--process-index={index}",
                    f"--config.compilation_cache={jax.config.jax_compilation_cache_dir}",
                ],
                cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for index in range(processes)
        ]  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def wait_until(self, happened, seconds=240):
        """Waits for a condition while all processes live."""
        deadline = time.monotonic() + seconds
        while not happened():
            for process in self.processes:
                assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def signal(self, index: int, number: signal.Signals):
        self.processes[index].send_signal(number)

    def ended(self, seconds=240):
        """Returns each process's exit code, output and errors."""
        deadline = time.monotonic() + seconds
        texts = [process.communicate(timeout=max(1, deadline - time.monotonic())) for process in self.processes]
        return [(process.returncode, *text) for process, text in zip(self.processes, texts, strict=True)]
