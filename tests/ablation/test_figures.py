"""The figures: means, spreads, times and verdicts of rows."""

import json

import numpy as np
import pytest
import scipy.stats
from ablation.runs_made import finish_row, folder_of, outline, settings

from effnetv2_jax.ablation.figures import results, row_figures, verdict_figures
from effnetv2_jax.ablation.folder import AblationFolder
from effnetv2_jax.ablation.outcome import record_failure
from effnetv2_jax.ablation.report import write_report
from effnetv2_jax.train.run.divergence import Diverged

RATES = ((17, 1000.0), (17, 3000.0), (17, 2000.0), (24, 500.0))
FIXED, BOTH = "one size, constant strength", "growing size and strength"


@pytest.fixture
def made(tmp_path):
    found = settings(tables=("progressive", "parts"), seeds=3)
    found.config["steps"] = 12
    folder = AblationFolder(str(tmp_path))
    folder.begin(found)
    return folder, found


def figures(made, estimate=None):
    folder, found = made
    return {
        each.name: each for each in results(folder, found, found.tables_of(outline(found)), outline(found), estimate)
    }


def accuracy(made):
    """The verdict on the claim of accuracy."""
    (found,) = [each for each in figures(made)["progressive"].verdicts if each.claim.measure == "top1"]
    return found


def test_a_row_has_the_mean_the_spread_and_the_time_of_its_steps(made):
    finish_row(*made, FIXED, [90.0, 92.0], rates=((24, 640.0),))
    finish_row(*made, BOTH, [91.0, 94.0, 97.0], rates=RATES)
    first, last = row_figures(figures(made)["progressive"])
    assert (first["row"], first["runs"], first["top1"], first["top1_mean"]) == (FIXED, 2, [90.0, 92.0], 91.0)
    assert first["top1_spread"] == pytest.approx(np.std([90, 92], ddof=1))
    assert first["seconds"] == pytest.approx(12 * 32 / 640)
    assert "difference" not in first
    assert last["difference"] == pytest.approx(3.0)
    assert last["seconds"] == pytest.approx(6 * 32 / 2000 + 6 * 32 / 500)  # by the median rate at each size
    assert last["steps_per_second"] == pytest.approx(500 / 32)


def test_a_verdict_is_that_of_welchs_test(made):
    one, other = [90.0, 91.0, 92.5], [94.0, 95.0, 97.0]
    finish_row(*made, FIXED, one)
    finish_row(*made, BOTH, other)
    verdict = accuracy(made)
    expected = scipy.stats.ttest_ind(other, one, equal_var=False).confidence_interval(0.95)
    assert verdict.value - verdict.margin == pytest.approx(expected.low)
    assert verdict.value + verdict.margin == pytest.approx(expected.high)
    assert verdict.holds == "yes"


@pytest.mark.parametrize(
    ("one", "other", "holds"),
    [
        ([90.0, 91.0, 92.0], [80.0, 81.0, 82.0], "no"),
        ([90.0, 91.0, 92.0], [90.5, 91.0, 92.0], "undecided"),
        ([90.0], [99.0], "undecided"),
        ([90.0, 90.0], [90.0, 90.0], "undecided"),
        ([90.0, 90.0], [91.0, 91.0], "yes"),
    ],
)
def test_a_claim_holds_does_not_hold_or_is_undecided(made, one, other, holds):
    finish_row(*made, FIXED, one)
    finish_row(*made, BOTH, other)
    verdict = accuracy(made)
    assert verdict.holds == holds
    assert ("margin" in verdict_figures(verdict)) == (len(one) > 1)


def test_raw_weights_are_another_row_of_the_same_runs(made):
    finish_row(*made, BOTH, [90.0, 92.0, 94.0], raw=70.0)
    configured, raw = row_figures(figures(made)["parts"])
    assert (configured["top1_mean"], raw["top1_mean"]) == (92.0, 70.0)
    assert (configured["weights"], raw["weights"]) == ("averaged", "raw")
    assert raw["difference"] == pytest.approx(-22.0)


def test_a_tpu_estimate_is_summed_over_the_stages(made):
    finish_row(*made, BOTH, [90.0], rates=RATES)
    (row,) = row_figures(figures(made, lambda run, size: size / 1000)["progressive"])
    assert row["tpu_seconds"] == pytest.approx(6 * 0.017 + 6 * 0.024)


def test_networks_have_parameters_and_steps_on_the_tpu(tmp_path):
    found = settings(tables=("fused",), seeds=1)
    folder = AblationFolder(str(tmp_path))
    finish_row(folder, found, "no fused rows", [90.0], rates=((17, 900.0), (24, 320.0)))
    finish_row(folder, found, "all rows fused", [90.0], rates=((17, 900.0), (24, 320.0)))
    (table,) = results(folder, found, found.tables_of(outline(found)), outline(found), lambda run, size: 0.25)
    none, every = row_figures(table)
    assert none["tpu_steps_per_second"] == 4.0
    assert none["steps_per_second"] == pytest.approx(10.0)
    assert none["parameters"] < every["parameters"]
    assert none["multiply_adds"] < every["multiply_adds"]


def test_the_report_has_figures_and_a_picture_of_each_table_with_results(made):
    folder, found = made
    finish_row(*made, FIXED, [90.0, 92.0], rates=((24, 640.0),))
    finish_row(*made, BOTH, [91.0], rates=RATES)
    written = write_report(folder, found, list(figures(made).values()), "v5e-1")
    assert [path.name for path in written] == ["report.json", "progressive.png", "parts.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[1:])
    content = json.loads(written[0].read_text())
    assert [row["row"] for row in content["tables"]["progressive"]["rows"]] == [FIXED, BOTH]
    assert content["tables"]["progressive"]["claims"][0]["holds"] == "undecided"
    assert "NaN" not in written[0].read_text()


def test_a_run_that_failed_is_told_and_does_not_count(made):
    finish_row(*made, FIXED, [90.0, 92.0])
    finish_row(*made, BOTH, [91.0])
    record_failure(folder_of(*made, BOTH, 1), Diverged("the loss of step 3 is nan\nand more"))
    _, both = row_figures(figures(made)["progressive"])
    assert (both["runs"], both["top1"], both["failures"]) == (1, [91.0], ["the loss of step 3 is nan"])


def test_a_run_without_rates_at_each_size_has_no_time(made):
    finish_row(*made, BOTH, [91.0], rates=((24, 640.0),))
    (row,) = row_figures(figures(made)["progressive"])
    assert "seconds" not in row


def test_a_damaged_summary_is_named(made):
    folder, found = made
    finish_row(*made, FIXED, [90.0])
    (path,) = folder.path.glob("runs/*/0/summary.json")
    path.write_text('{"top1": 3}')
    with pytest.raises(ValueError, match=r"contains a damaged summary\.json"):
        figures((folder, found))
