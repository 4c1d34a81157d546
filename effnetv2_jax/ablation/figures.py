"""The figures of an ablation: means and spreads of each table's rows, and whether its claims hold here."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import scipy.stats

from effnetv2_jax.ablation.estimate import StepEstimate
from effnetv2_jax.ablation.folder import AblationFolder
from effnetv2_jax.ablation.outcome import Outcome, read_outcome
from effnetv2_jax.ablation.outline import Outline
from effnetv2_jax.ablation.runs import RunNames, run_folder
from effnetv2_jax.ablation.settings import AblationSettings
from effnetv2_jax.ablation.tables import Claim, Measure, Row, Table
from effnetv2_jax.model.summary import count_multiply_adds, count_parameters

_CONFIDENCE = 0.95
_SHOWN: Mapping[Measure, str] = MappingProxyType(
    {"top1": "top1_mean", "seconds": "seconds", "steps_per_second": "steps_per_second"}
)


@dataclasses.dataclass(frozen=True)
class RowResult:
    """What came of the runs of a row.

    Attributes:
      row: the row.
      values: measure → its value in each run that has one, in the order of the seeds.
      figures: further figures, as JSON values.
      failures: why runs failed.
    """

    row: Row
    values: Mapping[Measure, Sequence[float]]
    figures: Mapping[str, Any]
    failures: Sequence[str] = ()

    def mean(self, measure: Measure) -> float:
        """Returns the mean over the runs."""
        return statistics.fmean(self.values[measure])

    def spread(self, measure: Measure) -> float:
        """Returns the standard deviation of the runs; NaN for a single one."""
        values = self.values[measure]
        return statistics.stdev(values) if len(values) > 1 else math.nan


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a claim holds.

    Attributes:
      claim: the claim.
      value: the sum of means that is above 0 if it holds.
      margin: half the width of the sum's 95 % confidence interval (Welch); NaN with a single run for a row.
      holds: `yes` or `no` if the interval lies on one side of 0, and `undecided` otherwise.
    """

    claim: Claim
    value: float
    margin: float
    holds: Literal["yes", "no", "undecided"]


@dataclasses.dataclass(frozen=True)
class TableResult:
    """A table with its results so far.

    Attributes:
      name: the table's name.
      table: the table.
      rows: the rows of which a run is finished or has failed.
      verdicts: the claims all of whose rows have a run that is finished.
    """

    name: str
    table: Table
    rows: Sequence[RowResult]
    verdicts: Sequence[Verdict]


def results(
    folder: AblationFolder,
    settings: AblationSettings,
    tables: Mapping[str, Table],
    outline: Outline,
    estimate: StepEstimate | None = None,
) -> list[TableResult]:
    """Returns the results of the tables that are asked for; the ablation may still be running.

    Args:
      folder: the folder of the ablation.
      settings: its settings.
      tables: every table, see `AblationSettings.tables_of`.
      outline: the outline of the run that the tables change.
      estimate: the estimate of a step, to add what a run would take on a TPU; None leaves it out.

    Raises:
      ValueError: if a run's files are damaged.
    """
    names, found = RunNames(outline, tables), []
    for name in settings.tables:
        table, rows = tables[name], []
        for row in table.rows:
            folders = [folder.run(run_folder(names.name(row), number)) for number in range(settings.seeds)]
            outcomes = [outcome for each in folders if (outcome := read_outcome(each))]
            if outcomes:
                rows.append(_row_result(row, outcomes, outline.changed(row.fields), table, estimate))
        known = {each.row.name: each for each in rows}
        verdicts = [_verdict(claim, known) for claim in table.claims if _is_known(claim, known)]
        found.append(TableResult(name, table, rows, verdicts))
    return found


def row_figures(result: TableResult) -> list[dict[str, Any]]:
    """Returns the figures of each row as JSON values: those of its runs, and how it differs from the first row."""
    first = result.rows[0] if result.rows and result.rows[0].row == result.table.rows[0] else None
    return [_row_figures(each, first) for each in result.rows]


def verdict_figures(verdict: Verdict) -> dict[str, Any]:
    """Returns a verdict as JSON values."""
    figures: dict[str, Any] = {
        "claim": verdict.claim.text,
        "measure": verdict.claim.measure,
        "value": verdict.value,
        "holds": verdict.holds,
    }
    return figures | ({} if math.isnan(verdict.margin) else {"margin": verdict.margin})


def _row_result(
    row: Row, outcomes: Sequence[Outcome], run: Outline, table: Table, estimate: StepEstimate | None
) -> RowResult:
    stages, batch_size, last = run.stages, run.config.batch_size, run.stages[-1].image_size
    finished = [outcome for outcome in outcomes if not outcome.failure]
    timed = [
        outcome.images_per_second
        for outcome in finished
        if all(stage.image_size in outcome.images_per_second for stage in stages)
    ]
    values: dict[Measure, list[float]] = {
        "top1": [outcome.top1[row.weights or "reported"] for outcome in finished],
        "seconds": [sum(stage.steps * batch_size / rates[stage.image_size] for stage in stages) for rates in timed],
        "steps_per_second": [rates[last] / batch_size for rates in timed],
    }
    figures: dict[str, Any] = {
        "fields": dict(row.fields),
        "weights": row.weights or run.config.evaluation.weights,
    }
    if table.networks:
        classes = run.num_classes
        figures["parameters"] = count_parameters(run.spec, classes)
        figures["multiply_adds"] = count_multiply_adds(run.spec, run.eval_size, classes)
    if estimate and table.networks:
        figures["tpu_steps_per_second"] = 1 / estimate(run, last)
    elif estimate:
        figures["tpu_seconds"] = sum(stage.steps * estimate(run, stage.image_size) for stage in stages)
    return RowResult(row, values, figures, [outcome.failure for outcome in outcomes if outcome.failure])


def _row_figures(result: RowResult, first: RowResult | None) -> dict[str, Any]:
    figures: dict[str, Any] = {"row": result.row.name, "runs": len(result.values["top1"]), **result.figures}
    figures["top1"] = list(result.values["top1"])
    for measure, name in _SHOWN.items():
        if result.values[measure]:
            figures[name] = result.mean(measure)
    if len(result.values["top1"]) > 1:
        figures["top1_spread"] = result.spread("top1")
    if first and first is not result and result.values["top1"] and first.values["top1"]:
        figures["difference"] = result.mean("top1") - first.mean("top1")
    if result.failures:
        figures["failures"] = list(result.failures)
    return figures


def _is_known(claim: Claim, rows: Mapping[str, RowResult]) -> bool:
    """Returns whether each row of a claim has a run with a value."""
    return all(name in rows and rows[name].values[claim.measure] for name in claim.weights)


def _verdict(claim: Claim, rows: Mapping[str, RowResult]) -> Verdict:
    """Returns whether a sum of means is above 0, by Welch's confidence interval."""
    samples = [(weight, rows[name].values[claim.measure]) for name, weight in claim.weights.items()]
    value = sum(weight * statistics.fmean(sample) for weight, sample in samples)
    if any(len(sample) < 2 for _, sample in samples):
        return Verdict(claim, value, math.nan, "undecided")
    variances = [weight**2 * statistics.variance(sample) / len(sample) for weight, sample in samples]
    total = sum(variances)
    if not total:
        return Verdict(claim, value, 0.0, "undecided" if not value else "yes" if value > 0 else "no")
    freedom = total**2 / sum(
        variance**2 / (len(sample) - 1) for variance, (_, sample) in zip(variances, samples, strict=True)
    )
    margin = float(scipy.stats.t.ppf((1 + _CONFIDENCE) / 2, freedom)) * math.sqrt(total)
    return Verdict(claim, value, margin, "undecided" if abs(value) <= margin else "yes" if value > 0 else "no")
