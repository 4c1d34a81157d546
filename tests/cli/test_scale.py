"""`effnetv2 scale`."""

import json

import pytest

from effnetv2_jax.analysis import row_sum
from effnetv2_jax.cli.main import main
from effnetv2_jax.model.scaling import layers_of, scale_spec
from effnetv2_jax.model.summary import count_parameters
from effnetv2_jax.model.variants import VARIANTS, get_spec


def test_a_network_within_a_budget_is_written_as_a_spec(tmp_path, capsys):
    assert main(["scale", "efficientnetv2-b0", "--parameters", "9e6", "20e6", "--out", str(tmp_path), "--json"]) == 0
    base, *scaled = json.loads(capsys.readouterr().out)
    assert base["network"] == "efficientnetv2-b0"
    for row, budget in zip(scaled, (9e6, 20e6), strict=True):
        spec = get_spec(row["file"])
        assert spec == scale_spec(VARIANTS["efficientnetv2-b0"], row["phi"])
        assert count_parameters(spec) == row["parameters"] <= budget
    assert main(["info", scaled[0]["file"]]) == 0


def test_the_differences_from_published_variants_are_shown(capsys):
    assert main(["scale", "efficientnetv2-s", "--like", "efficientnetv2-m", "efficientnetv2-l"]) == 0
    out = capsys.readouterr().out
    assert "compared with efficientnetv2-m: -1.8 % layers, -3.5 % parameters, +5.9 % multiply-adds" in out
    assert "compared with efficientnetv2-l: +2.5 % layers, -0.2 % parameters, +3.6 % multiply-adds" in out
    assert "+4 × -16" in out


def test_a_budget_of_time_counts_the_estimated_step_of_a_tpu(monkeypatch, capsys):
    def seconds(_, spec):
        return 1e-5 * sum(layers_of(spec))

    monkeypatch.setattr(row_sum, "make_mesh", lambda topology: None)
    monkeypatch.setattr(row_sum.RowSum, "seconds", seconds)
    arguments = ["scale", "efficientnetv2-b0", "--step-ms", "0.4", "--topology", "v5e-1", "--batch-per-chip", "8"]
    assert main([*arguments, "--json"]) == 0
    base, scaled = json.loads(capsys.readouterr().out)
    assert (base["step_ms"], scaled["step_ms"]) == (pytest.approx(0.21), pytest.approx(0.4, abs=0.03))
    assert scaled["step_ms"] <= 0.4


def test_a_budget_of_time_may_count_the_last_stage_of_a_config(monkeypatch, capsys):
    seen = []

    def seconds(self, spec):
        seen.append((self._config.batch_size, self._config.model.dtype, self._image_size))
        return 1e-5 * sum(layers_of(spec))

    monkeypatch.setattr(row_sum, "make_mesh", lambda topology: None)
    monkeypatch.setattr(row_sum.RowSum, "seconds", seconds)
    arguments = ["scale", "efficientnetv2-b0", "--step-ms", "0.4", "--topology", "v5e-1"]
    assert main([*arguments, "--config", "digits", "--config.progressive.image_size=(17,32)"]) == 0
    assert set(seen) == {(64, "float32", 32)}
    assert "ms at 32 px" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["efficientnetv2-s", "--phi", "1", "--config", "digits"], "--config goes with --step-ms", 2),
        (["efficientnetv2-s", "--phi", "1", "--config.epochs=3"], "--config.epochs=3 goes with --config", 2),
        (
            ["efficientnetv2-s", "--step-ms", "9", "--config", "digits", "--batch-per-chip", "8"],
            "without --batch-per-chip",
            2,
        ),
        (["efficientnetv2-s", "--parameters", "1e6"], "must be at least those of efficientnetv2-s itself", 1),
        (["efficientnetv2-z", "--phi", "1"], "unknown variant 'efficientnetv2-z'", 1),
        (["efficientnetv2-s", "--phi", "1", "--topology", "v5e-1"], "--topology goes with --step-ms", 2),
        (["efficientnetv2-s", "--step-ms", "9", "--topology", "v9"], "unknown TPU 'v9'", 1),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(capsys, arguments, said, code):
    assert main(["scale", *arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
