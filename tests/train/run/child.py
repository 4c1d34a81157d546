"""One child process that trains, and may be made to stay in a phase of the run until it is signalled.

As a script: `python child.py PHASE train …` runs the command line, and writes the file WAITING in the working directory
once the phase is reached.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent.parent


class Child:
    """A process that runs `effnetv2 train` on two CPU devices. Leaving the context kills it."""

    def __init__(self, workdir: Path, *overrides: str, phase: str = "", folder: Path | None = None):
        import jax

        environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(ROOT)}
        script = [str(Path(__file__)), phase] if phase else ["-m", "effnetv2_jax"]
        self.waiting = (folder or workdir.parent) / "WAITING"
        self.waiting.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                sys.executable, *script, "train", f"--config={ROOT / 'configs/smoke.py'}", f"--workdir={workdir}",
                f"--config.compilation_cache={jax.config.jax_compilation_cache_dir}", *overrides,
            ],
            cwd=self.waiting.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def wait_until(self, happened, seconds=900):
        """Waits until a condition holds, and returns False if the process ends before."""
        deadline = time.monotonic() + seconds
        while not happened():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return True

    def ended(self, seconds=120):
        """Waits for the end, and returns the exit code, the output and the errors."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


def note_batches(watched: Callable[..., Iterator[Any]], path: Path) -> Callable[..., Iterator[Any]]:
    """Returns a form of `Loop._watched` that appends the step and the digest of each batch to a file."""

    def noted(self: Any, batches: Iterator[Any]) -> Iterator[Any]:
        for step, batch in enumerate(watched(self, batches), self.step):
            digest = hashlib.sha256(b"".join(batch[name].tobytes() for name in sorted(batch))).hexdigest()
            with path.open("a") as file:
                file.write(f"{step} {digest}\n")
            yield batch

    return noted


def noted_batches(*paths: Path) -> dict[int, str]:
    """Returns the digest of the batch of each step. A step that was repeated must have had the same batch again."""
    found: dict[int, str] = {}
    for line in "".join(path.read_text() for path in paths).splitlines():
        step, digest = line.split()
        assert found.setdefault(int(step), digest) == digest, f"step {step} has had two different batches"
    return found


def stay() -> None:
    """Announces that the phase is reached, and stays in it for an hour."""
    Path("WAITING").touch()
    time.sleep(3600)


def linger() -> None:
    """Announces that the phase is reached, and stays in it for some seconds."""
    Path("WAITING").touch()
    time.sleep(3)


def stay_in(phase: str) -> None:
    """Patches the program so that it stays in a phase."""
    from effnetv2_jax.cli.commands import train as command
    from effnetv2_jax.train import evaluation, loop, trainer
    from effnetv2_jax.train.checkpoint import saver
    from effnetv2_jax.train.devices import compiler
    from effnetv2_jax.train.run import processes

    if phase == "batches":  # notes all batches, each process in a file of its own
        process = next((word[-1] for word in sys.argv if word.startswith("--process-index=")), "0")
        loop.Loop._watched = note_batches(loop.Loop._watched, Path(f"batches_{process}.txt"))
    elif phase == "import":  # before the run, when the processes have joined
        command.load_teacher = lambda *_: linger()
    elif phase == "start":  # as if the data set took an hour to open, in code that is not Python
        trainer.make_experiment = lambda *_, **__: stay()
    elif phase == "restore":  # as if a checkpoint took an hour to read
        trainer.find_start = lambda *_: stay()
    elif phase == "input":  # as if the first batch took an hour
        loop.Loop._watched = lambda *_: (stay() for _ in (1,))
    elif phase == "compile":  # as if a program took an hour to compile, in its thread
        compiler.compile_within = lambda *_, **__: stay()
    elif phase == "evaluation":  # as if the evaluation had a million batches
        first = evaluation.eval_batches

        def batches(*arguments, **named):
            batch = next(first(*arguments, **named))
            for _ in range(1_000_000):
                Path("WAITING").touch()
                time.sleep(0.05)
                yield batch

        evaluation.eval_batches = batches
    elif phase == "save":  # as if writing took two seconds
        write = saver.write

        def slowly(path, step, tree):
            if step:
                Path("WAITING").touch()
                time.sleep(2)
            write(path, step, tree)

        saver.write = slowly
    elif phase == "late":  # as if the second of several processes waited for its images for an hour
        watched = loop.Loop._watched

        def late(self, batches):
            for number, batch in enumerate(watched(self, batches)):
                if number == 4 and "--process-index=1" in sys.argv:
                    self.alive.beat("input")
                    stay()
                yield batch

        loop.Loop._watched = late
    elif phase in ("lost", "failing"):  # processes that notice soon that another one is lost; one fails by itself
        processes.SILENCE_SECONDS = 12.0
        watched = loop.Loop._watched

        def failing(self, batches):
            for number, batch in enumerate(watched(self, batches)):
                if number == 4:
                    Path("WAITING").touch()
                    if phase == "failing" and "--process-index=1" in sys.argv:
                        raise OSError("the disk of process 1 is gone")
                yield batch

        loop.Loop._watched = failing
    elif phase == "train":
        after_step = loop.Loop._after_step

        def noted(self, *arguments):
            after_step(self, *arguments)
            Path("WAITING").touch()
            time.sleep(0.2)

        loop.Loop._after_step = noted


if __name__ == "__main__":
    stay_in(sys.argv[1])
    from effnetv2_jax.cli.main import script

    del sys.argv[1]
    script()
