"""What a run tells: rows of metrics, progress, pictures and the summary."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from effnetv2_jax.train.devices.sharding import HostBatch
from effnetv2_jax.train.devices.throughput import peak_flops, training_flops
from effnetv2_jax.train.evaluation import Results
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.step import Metrics
from effnetv2_jax.train.report import pictures
from effnetv2_jax.train.report.metrics import MetricsWriter
from effnetv2_jax.train.report.preview import draw_batch
from effnetv2_jax.train.report.progress import Progress, stage_table
from effnetv2_jax.train.run.divergence import check_metrics
from effnetv2_jax.train.run.processes import is_first

SUMMARY = "summary.json"
_PACKAGES = ("effnetv2_jax", "jax", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


class Reporter:
    """Writes the files of a run's folder and shows its progress; a context. Only the first process of a pod does."""

    def __init__(self, experiment: Experiment, folder: epath.Path, first_step: int) -> None:
        self._experiment = experiment
        self._folder = folder
        self._shown = is_first()
        self._first_step = first_step
        self._started = time.monotonic()
        self._peak_flops = peak_flops(jax.devices())
        self._progress = Progress(experiment.stages, first_step, shown=self._shown)
        self._writer = MetricsWriter(folder, first_step) if self._shown else None
        self._mark = (time.monotonic(), first_step)
        self._active = 0.0  # seconds spent on steps and evaluations so far, without waiting for programs
        self._latest: tuple[int, Results | None] = (-1, None)

    def __enter__(self) -> Reporter:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)
        if self._writer:
            self._writer.close()

    def introduce(self) -> None:
        """Prints what is about to be trained, on what, and the stages."""
        experiment, say = self._experiment, self._progress.say
        facts, config = experiment.facts, experiment.config
        size = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(experiment.abstract_state().params))
        device = jax.devices()[0]
        say(
            f"{experiment.spec.name}, {size:,} parameters, {config.model.dtype}, on {jax.device_count()} × "
            f"{device.device_kind} ({device.platform}{_processes()})"
        )
        say(
            f"{config.data.dataset}: {facts.train_examples:,} training and {facts.eval_examples:,} evaluation images, "
            f"{facts.num_classes:,} classes; batch {config.batch_size:,}, {experiment.total_steps:,} steps, "
            f"{experiment.total_steps / experiment.steps_per_epoch:.4g} epochs"
        )
        say(stage_table(experiment.stages, config.data.augmentation))
        say(f"everything goes to {self._folder}")
        if self._first_step:
            say(f"going on from step {self._first_step}")

    def start(self, stage: Stage, step: int, program: Mapping[str, Any]) -> None:
        """Notes that a stage begins (or is resumed) at a step, and prints the facts of its program."""
        self._mark = (time.monotonic(), step)
        kept = ", from the cache" if program["from_cache"] else ""
        self._progress.say(
            f"stage {stage.index + 1}: compiled in {program['compile_seconds']:.1f} s{kept}, waited for "
            f"{program['waited_seconds']:.1f} s; {program['accumulation_steps']} × "
            f"{self._experiment.config.batch_size // program['accumulation_steps']:,} images a step, "
            f"{program['device_bytes'] / 1e9:.3g} GB of each device's memory"
        )

    def warn(self, text: str) -> None:
        """Prints a line about what should not have happened."""
        self._progress.say(f"warning: {text}")

    def with_pictures(self, stage: Stage, step: int, batches: Iterator[HostBatch]) -> Iterator[HostBatch]:
        """Passes a stage's batches on; draws the first as the network sees it, unless that picture is there."""
        path = self._folder / f"stage_{stage.index + 1}.png"
        if not self._shown or path.exists():
            return batches
        first = next(batches)
        draw_batch(self._experiment, stage, first, step, path)
        return itertools.chain([first], batches)

    def step(self, step: int, stage: Stage, metrics: Metrics, skipped: int) -> None:
        """Reports the training metrics after a step, and how many broken images this host has skipped since its start.

        Raises:
          Diverged: if the loss or the gradients are not finite.
        """
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        check_metrics(values, step, stage)
        now = time.monotonic()
        then, since = self._mark
        self._mark = (now, step)
        self._active += now - then
        rate = (step - since) * self._experiment.config.batch_size / max(now - then, 1e-9)
        values |= {"image_size": stage.image_size, "stage": stage.index + 1, "images_per_second": rate}
        if self._peak_flops:
            flops = training_flops(self._experiment.spec, stage.image_size, self._experiment.facts.num_classes)
            values["mfu"] = rate * flops / self._peak_flops
        if skipped:
            values["skipped_images"] = skipped
        self._progress.update(step, stage, values, self._active)
        self._write(step, values, "train")

    def evaluation(self, step: int, results: Results) -> None:
        """Reports the results of an evaluation after a step."""
        self._latest = (step, results)
        for name, values in results.items():
            self._write(step, values, name)
        parts = ", ".join(f"{name} weights {values['top1']:.2f} %" for name, values in results.items())
        self._progress.say(f"step {step}: top-1 on {results['raw']['count']:,.0f} images: {parts}")

    @contextlib.contextmanager
    def paused(self, step: int) -> Iterator[None]:
        """Leaves what happens within out of the images a second."""
        start = time.monotonic()
        yield
        taken = time.monotonic() - start
        then, since = self._mark
        self._mark = (then + taken, since)
        self._active += taken

    def results_at(self, step: int) -> Results | None:
        """Returns the results of the evaluation after a step, if there was one; the same on every process."""
        if self._latest[0] == step or jax.process_count() > 1:  # only the first process has the rows of earlier runs
            return self._latest[1] if self._latest[0] == step else None
        found: Results = {}
        for row in self._writer.rows if self._writer else []:
            for key, value in row.items():
                name, _, metric = key.partition("/")
                if row["step"] == step and name in ("raw", "averaged"):
                    found.setdefault(name, {})[metric] = value
        return found or None

    def finish(self, results: Results, programs: Mapping[str, Any]) -> dict[str, Any]:
        """Draws the curves, writes the summary and returns it."""
        experiment = self._experiment
        done = experiment.total_steps - self._first_step
        summary: dict[str, Any] = {
            "variant": experiment.spec.name,
            "steps": experiment.total_steps,
            "examples": experiment.total_steps * experiment.config.batch_size,
            "wall_seconds": round(time.monotonic() - self._started, 1),
            "steps_of_this_process": done,
            "programs": programs,
            "reported_weights": experiment.config.evaluation.weights,
        }
        for name, suffix in (("raw", ""), ("averaged", "_averaged")):
            summary |= {f"{metric}{suffix}": round(results[name][metric], 4) for metric in ("top1", "top5", "loss")}
        summary["evaluated_images"] = int(results["raw"]["count"])
        summary["versions"] = {package: importlib.metadata.version(package) for package in _PACKAGES}
        summary["devices"] = [f"{jax.device_count()} × {jax.devices()[0].device_kind}{_processes()}"]
        if self._writer:
            title = f"{experiment.spec.name} on {experiment.config.data.dataset}"
            pictures.draw_curves(self._folder / "curves.png", self._writer.rows, experiment.stages, title)
            (self._folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
        return summary

    def _write(self, step: int, values: Mapping[str, float], prefix: str) -> None:
        if self._writer:
            self._writer.write(step, values, prefix)


def _processes() -> str:
    return f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
