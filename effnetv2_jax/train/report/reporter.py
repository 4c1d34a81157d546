"""The reports of a run: rows of metrics, progress, pictures and the summary."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from effnetv2_jax.byte_size import byte_size
from effnetv2_jax.model.summary import count_parameters
from effnetv2_jax.train.devices.sharding import HostBatch
from effnetv2_jax.train.devices.throughput import peak_flops, training_flops
from effnetv2_jax.train.recipe.eval_step import Results
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.step import Metrics
from effnetv2_jax.train.report import pictures
from effnetv2_jax.train.report.description import RunDescription
from effnetv2_jax.train.report.metrics import MetricsWriter
from effnetv2_jax.train.report.preview import draw_batch
from effnetv2_jax.train.report.progress import Progress, stage_table
from effnetv2_jax.train.report.tracker import Tracker
from effnetv2_jax.train.run.processes import is_first
from effnetv2_jax.train.run_folder.claim import SUMMARY
from effnetv2_jax.train.run_folder.json_file import write_json

_PACKAGES = ("effnetv2_jax", "jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


class Reporter:
    """A context that writes a run's reports into its folder and shows its progress. Only the first process does so."""

    def __init__(self, run: RunDescription, folder: epath.Path, first_step: int) -> None:
        self._run = run
        self._folder = folder
        self._active = is_first()
        self._first_step = first_step
        self._started = time.monotonic()
        self._peak_flops = peak_flops(jax.devices())
        self._progress = Progress(run.stages, first_step, shown=self._active)
        self._writer = MetricsWriter(folder, first_step, self.warn) if self._active else None
        self._tracker = (
            Tracker(run.tracker, run.tracker_project, folder, run.config, self.warn)
            if self._active and run.tracker
            else None
        )
        self._mark = (time.monotonic(), first_step)
        self._busy_seconds = 0.0  # steps, saving and evaluations, but not waiting for programs
        self._latest: tuple[int, Results | None] = (-1, None)
        self._skipped = 0  # steps
        self._refused_options: set[tuple[str, str]] = set()

    def __enter__(self) -> Reporter:
        self._progress.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._progress.__exit__(kind, *rest)
        try:
            if self._tracker:
                self._tracker.close()
            if self._writer:
                self._writer.close()
        except OSError as error:
            if kind is None:
                raise
            self.warn(str(error))  # the run ends with another error already

    def flush(self) -> None:
        """Waits until the rows are written, as far as the disk allows."""
        if self._writer:
            self._writer.flush()

    def introduce(self, warnings: Sequence[str] = ()) -> None:
        """Prints what is trained, on which data and devices, the stages, and warnings."""
        run, info, say = self._run, self._run.dataset_info, self._progress.say
        model, device = run.recipe.model, jax.devices()[0]
        say(
            f"{run.spec.name}, {count_parameters(run.spec, info.num_classes):,} parameters, "
            f"{jax.numpy.dtype(model.dtype).name}, on {jax.device_count()} × {device.device_kind} "
            f"({device.platform}{_processes()})"
        )
        say(
            f"{run.dataset}: {info.train_examples:,} training and {info.eval_examples:,} evaluation images, "
            f"{info.num_classes:,} classes; batch {run.batch_size:,}, {run.total_steps:,} steps, "
            f"{run.epochs:.4g} epochs"
        )
        say(run.training_images)
        say(stage_table(run))
        say(f"run folder: {self._folder}")
        for text in warnings:
            self.warn(text)
        if self._first_step:
            say(f"resuming from step {self._first_step}")

    def start(self, stage: Stage, step: int, figures: Mapping[str, Any]) -> None:
        """Starts to time a stage, which starts or resumes at a step, and prints the figures of its program."""
        self._mark = (time.monotonic(), step)
        cached = ", from the cache" if figures["from_cache"] else ""
        microbatches = figures["accumulation_steps"]
        options = "".join(f"; {name}={value}" for name, value in figures["compiler_options"].items())
        self._progress.say(
            f"stage {stage.index + 1}: compiled in {figures['compile_seconds']:.1f} s{cached}, waited for "
            f"{figures['waited_seconds']:.1f} s; {microbatches} × {self._run.batch_size // microbatches:,} images a "
            f"step, {byte_size(figures['device_bytes'])} of each device's memory{options}"
        )
        self.refused_options(f"stage {stage.index + 1}", figures["refused_options"])

    def refused_options(self, program: str, names: Sequence[str]) -> None:
        """Warns, once for each program, of the options that the compiler does not know."""
        for name in names:
            if (program, name) not in self._refused_options:
                self._refused_options.add((program, name))
                self.warn(f"this compiler does not know {name}; {program} is compiled without it")

    def say(self, text: str) -> None:
        """Prints a line."""
        self._progress.say(text)

    def warn(self, text: str) -> None:
        """Prints a warning."""
        self._progress.say(f"warning: {text}")

    def with_pictures(self, stage: Stage, step: int, batches: Iterator[HostBatch]) -> Iterator[HostBatch]:
        """Passes a stage's batches through, and draws the first one unless the stage's picture exists already."""
        path = self._folder / f"stage_{stage.index + 1}.png"
        if not self._active or path.exists():
            return batches
        first = next(batches)
        with self._warning_if_not_written():
            draw_batch(self._run, stage, first, step, path)
        return itertools.chain([first], batches)

    def step(self, step: int, stage: Stage, metrics: Metrics, skipped: int) -> None:
        """Reports the training metrics after a step.

        Args:
          step: number of steps done.
          stage: the stage of the last step.
          metrics: metrics of the last step.
          skipped: number of broken images that this host has skipped since it started.
        """
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        values.pop("skipped", None)  # `skipped_steps` has reported it
        now = time.monotonic()
        then, since = self._mark
        self._mark = (now, step)
        self._busy_seconds += now - then
        rate = (step - since) * self._run.batch_size / max(now - then, 1e-9)
        values |= {"image_size": stage.image_size, "stage": stage.index + 1, "images_per_second": rate}
        if self._peak_flops:
            flops = training_flops(self._run.spec, stage.image_size, self._run.dataset_info.num_classes)
            values["mfu"] = rate * flops / self._peak_flops
        if skipped:
            values["skipped_images"] = skipped
        self._progress.update(step, stage, values, self._busy_seconds, self._skipped)
        # JSON has no numbers that are not finite. Only a step that was skipped has any.
        self._write(step, {f"train/{name}": value for name, value in values.items() if math.isfinite(value)})

    def skipped_steps(self, steps: Sequence[int]) -> None:
        """Reports steps that were skipped, each with a row of its own."""
        for step in steps:
            self._write(step, {"train/skipped_steps": 1.0})
        if steps:
            self._skipped += len(steps)
            which = f"step {steps[0]} is" if len(steps) == 1 else f"{len(steps)} steps up to {steps[-1]} are"
            self.warn(f"{which} skipped, because the loss or the gradients are not finite")

    def evaluation(self, step: int, results: Results) -> None:
        """Reports the results of an evaluation after a step."""
        self._latest = (step, results)
        if step not in self.scores():  # several processes that start a finished run again evaluate it again
            # One row, so that a process that is killed leaves all of it or nothing.
            row = {f"{name}/{key}": value for name, values in results.items() for key, value in values.items()}
            self._write(step, row)
        parts = ", ".join(f"{name} weights {values['top1']:.2f} %" for name, values in results.items())
        self._progress.say(
            f"step {step}: top-1 on {results['raw']['count']:,.0f} images of {self._run.eval_size} px: {parts}"
        )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """A context whose duration does not count towards the images per second."""
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        then, since = self._mark
        self._mark = (then + seconds, since)
        self._busy_seconds += seconds

    def results_at(self, step: int) -> Results | None:
        """Returns the results of the evaluation after a step, if there was one. All processes get the same answer."""
        # Only the first process has the rows that were written before this start.
        if self._latest[0] == step or jax.process_count() > 1:
            return self._latest[1] if self._latest[0] == step else None
        found: Results = {}
        for row in self._writer.rows if self._writer else []:
            for key, value in row.items():
                name, _, metric = key.partition("/")
                if row["step"] == step and name in ("raw", "averaged"):
                    found.setdefault(name, {})[metric] = value
        return found if len(found) == 2 else None

    def scores(self) -> dict[int, float]:
        """Returns the top-1 of the weights that the run reports, by step, as far as this process knows it."""
        name = f"{self._run.reported_weights}/top1"
        return {row["step"]: row[name] for row in (self._writer.rows if self._writer else []) if name in row}

    def finish(self, results: Results, programs: Mapping[str, Any]) -> dict[str, Any]:
        """Draws the curves, writes the summary and returns it.

        Args:
          results: results of the evaluation after the last step.
          programs: figures of each program by its name.

        Raises:
          OSError: if the summary cannot be written.
        """
        run = self._run
        summary: dict[str, Any] = {
            "variant": run.spec.name,
            "steps": run.total_steps,
            "examples": run.total_steps * run.batch_size,
            "wall_seconds": round(time.monotonic() - self._started, 1),
            "steps_of_this_process": run.total_steps - self._first_step,
            "programs": programs,
            "reported_weights": run.reported_weights,
        }
        for name, suffix in (("raw", ""), ("averaged", "_averaged")):
            summary |= {f"{metric}{suffix}": round(results[name][metric], 4) for metric in ("top1", "top5", "loss")}
        summary["evaluated_images"] = int(results["raw"]["count"])
        summary["versions"] = {package: importlib.metadata.version(package) for package in _PACKAGES}
        summary["devices"] = [f"{jax.device_count()} × {jax.devices()[0].device_kind}{_processes()}"]
        if self._writer:
            title = f"{run.spec.name} on {run.dataset}"
            with self._warning_if_not_written():
                pictures.draw_curves(self._folder / "curves.png", self._writer.rows, run.stages, title)
            write_json(self._folder / SUMMARY, summary)
        return summary

    @contextlib.contextmanager
    def _warning_if_not_written(self) -> Iterator[None]:
        """A context in which a picture is drawn; it warns if the picture cannot be written."""
        try:
            yield
        except OSError as error:
            self.warn(str(error))

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer:
            self._writer.write(step, values)
        if self._tracker:
            self._tracker.log(step, values)


def _processes() -> str:
    return f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
