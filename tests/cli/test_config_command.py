"""`effnetv2 config` lists what `--config.FIELD=VALUE` accepts."""

import json

from effnetv2_jax.cli.main import main


def test_every_field_is_listed_with_its_value_type_and_meaning(capsys):
    assert main(["config", "smoke", "--config.seed=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "--config.seed=3" in lines
    assert "--config.progressive.image_size='(17, 24)'" in lines
    after = lines[lines.index("--config.loss.kind=softmax") + 1]
    assert after.startswith("    'softmax', 'sigmoid' or 'multi_hot'; ")


def test_a_printed_line_is_a_valid_override(capsys):
    assert main(["config", "digits"]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--config.")]
    overrides = [line.replace("'", "") for line in printed if not line.endswith(("=None", "='()'"))]
    assert main(["config", "digits", *overrides]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("--config.")] == printed


def test_json_has_the_allowed_values(capsys):
    assert main(["config", "smoke", "--json"]) == 0
    fields = {field["name"]: field for field in json.loads(capsys.readouterr().out)}
    assert fields["evaluation.weights"]["choices"] == ["averaged", "raw"]
    assert fields["steps"]["value"] == 12


def test_an_unknown_field_names_the_nearest_and_an_enumeration_its_values(capsys):
    assert main(["config", "smoke", "--config.optimiser.clip_norm=1"]) == 2
    assert "optimizer.clip_norm" in capsys.readouterr().err
    assert main(["config", "smoke", "--config.loss.kind=hinge"]) == 2
    assert "loss.kind must be 'softmax', 'sigmoid' or 'multi_hot', got 'hinge'" in capsys.readouterr().err
