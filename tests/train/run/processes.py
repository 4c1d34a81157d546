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


class Children:
    """Runs one command in several processes. Leaving the context ends all of them."""

    def __init__(
        self, command: str, *arguments: str, processes: int = 2, devices: int = 1, phase: str = "", folder: Path = ROOT
    ):
        """Starts `processes` processes with `devices` devices each, which stay in a phase, see `child.py`."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
        script = [str(Path(__file__).parent / "child.py"), phase] if phase else ["-m", "effnetv2_jax"]
        arguments = [argument.replace("=configs/", f"={ROOT}/configs/") for argument in arguments]
        self.processes = [
            subprocess.Popen(
                [
                    sys.executable, *script, command, *arguments, f"--coordinator=localhost:{port}",
                    f"--processes={processes}", f"--process-index={index}",
                    f"--config.compilation_cache={jax.config.jax_compilation_cache_dir}",
                ],
                cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
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

    def wait_until(self, happened, seconds=900):
        """Waits until a condition holds, and fails if a process ends before."""
        deadline = time.monotonic() + seconds
        while not happened():
            for process in self.processes:
                assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def signal(self, index: int, number: signal.Signals):
        self.processes[index].send_signal(number)

    def ended(self, seconds=900):
        """Waits until all processes have ended, and returns the exit code, output and errors of each."""
        deadline = time.monotonic() + seconds
        texts = [process.communicate(timeout=max(1, deadline - time.monotonic())) for process in self.processes]
        return [(process.returncode, *text) for process, text in zip(self.processes, texts, strict=True)]
