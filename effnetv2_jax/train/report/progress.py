"""The progress of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import rich.box
import rich.progress
import rich.table

from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.report.console import make_console
from effnetv2_jax.train.report.description import RunDescription


class Progress:
    """A context that shows the progress of a run, or nothing if not `shown`."""

    def __init__(self, stages: Sequence[Stage], first_step: int, *, shown: bool) -> None:
        self._stages = stages
        self._console = make_console(quiet=not shown)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.fields[numbers]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        total = stages[-1].end_step
        self._task = self._bar.add_task("", total=total, completed=first_step, numbers="")
        self._first_step = first_step

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str | rich.table.Table) -> None:
        """Prints a line or a table above the bar."""
        self._console.print(text, markup=False) if isinstance(text, str) else self._console.print(text)

    def update(self, step: int, stage: Stage, metrics: Mapping[str, float], seconds: float, skipped: int) -> None:
        """Shows the stage, the steps done, loss, learning rate, speed, model FLOPs utilization and the time left.

        Args:
          step: number of steps done.
          stage: the stage of the last step.
          metrics: metrics of the last step.
          seconds: time that this process has spent on steps and evaluations.
          skipped: number of steps that this process has skipped; shown if there are any.
        """
        utilization = f"mfu {metrics['mfu']:.1%}  " if "mfu" in metrics else ""
        steps_skipped = f"{skipped} skipped  " if skipped else ""
        left = _duration(seconds * _work_left(self._stages, self._first_step, step))
        numbers = (
            f"step {step}/{self._stages[-1].end_step}  loss {metrics['loss']:.4f}  lr {metrics['learning_rate']:.3g}  "
            f"{metrics['images_per_second']:.0f} images/s  {utilization}{steps_skipped}{left} left"
        )
        title = f"stage {stage.index + 1}/{len(self._stages)} ({stage.image_size} px)"
        self._bar.update(self._task, completed=step, description=title, numbers=numbers)
        if not self._console.is_terminal:
            self.say(f"{title}  {numbers}")


def _work_left(stages: Sequence[Stage], first_step: int, step: int) -> float:
    """Returns the ratio of the pixels still to train on to those since `first_step`. Later images are larger."""

    def pixels(until: int) -> int:
        return sum(max(0, min(until, each.end_step) - each.first_step) * each.image_size**2 for each in stages)

    return (pixels(stages[-1].end_step) - pixels(step)) / (pixels(step) - pixels(first_step))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def stage_table(run: RunDescription) -> rich.table.Table:
    """Returns a table with a row for each stage and one for the evaluation."""
    table = rich.table.Table(title="Progressive learning", title_justify="left", box=rich.box.SIMPLE_HEAD)
    has_magnitude = run.augmentation == "randaugment"
    augmentation = ["randaugment"] if has_magnitude else []
    for name in ("stage", "steps", "px", *augmentation, "mixup α", "cutmix α", "dropout", "drop path"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in run.stages:
        magnitude = [f"{stage.magnitude:.4g}"] if has_magnitude else []
        rates = (stage.mixup_alpha, stage.cutmix_alpha, stage.dropout_rate, stage.drop_path_rate)
        steps = f"{stage.first_step}–{stage.end_step}"
        number = f"{stage.index + 1}, classifier only" if stage.head_only else str(stage.index + 1)
        values = (number, steps, str(stage.image_size), *magnitude, *(f"{rate:.3g}" for rate in rates))
        table.add_row(*values)
    table.add_row("evaluation", "", str(run.eval_size))
    return table
