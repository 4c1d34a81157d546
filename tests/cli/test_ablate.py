"""`effnetv2 ablate`: what it runs, prints and refuses."""

import json

import pytest
from ablation.runs_made import finish
from etils import epath
from fake_bucket import use_as_bucket

from effnetv2_jax.cli.main import main
from effnetv2_jax.model.spec_file import write_spec
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.train import trainer


@pytest.fixture
def invented(monkeypatch):
    """Trains nothing: each run ends at once, with an accuracy that follows from its seed."""
    seen = []

    def train(config, workdir, variables, teacher, own_process):
        assert (variables, teacher, own_process) == (None, None, True)
        seen.append(config)
        finish(epath.Path(workdir), top1=90.0 + config.seed, rates=((17, 900.0), (24, 500.0)))

    monkeypatch.setattr(trainer, "train", train)
    return seen


def run(tmp_path, *arguments):
    return main(["ablate", "run", str(tmp_path / "made"), *arguments])


def test_a_run_trains_all_rows_and_prints_and_writes_the_tables(invented, tmp_path, capsys):
    assert run(tmp_path, "--config", "smoke", "--tables", "progressive", "parts", "--seeds", "2") == 0
    assert len(invented) == 2 * 9
    out, err = capsys.readouterr()
    for text in ("Progressive learning", "growing size and strength", "Parts of the recipe", "18 of 18 runs"):
        assert text in out
    assert "run 1 of 18: one size, constant strength, seed 0" in err
    assert "report/progressive.png" in err
    assert main(["ablate", "report", str(tmp_path / "made"), "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert [row["top1"] for row in tables["progressive"]] == [[90.0, 91.0]] * 4


def test_an_ablation_may_lie_in_a_bucket(invented, tmp_path, monkeypatch, capsys):
    bucket = use_as_bucket(tmp_path / "bucket", monkeypatch)
    options = ("--config", "smoke", "--tables", "networks", "--seeds", "1")
    assert main(["ablate", "run", "gs://bucket/made", *options]) == 0
    assert len(invented) == 2
    assert "2 of 2 runs" in capsys.readouterr().out
    assert (bucket / "made/report/networks.png").read_bytes().startswith(b"\x89PNG")
    assert main(["ablate", "run", "gs://bucket/made"]) == 0
    assert len(invented) == 2


def test_a_run_goes_on_with_more_seeds_and_its_own_config(invented, tmp_path, capsys):
    run(tmp_path, "--config", "smoke", "--tables", "progressive", "--seeds", "1", "--config.steps=8")
    assert run(tmp_path, "--seeds", "2") == 0
    assert [(config.seed, config.steps) for config in invented] == [(0, 8)] * 4 + [(1, 8)] * 4
    assert "8 of 8 runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "a new ablation needs --config"),
        (["run", "--config", "smoke", "--json"], "--json and --topology go with report"),
        (["run", "--config", "smoke", "--base", "efficientnet-b9"], "unknown variant 'efficientnet-b9'"),
        (["run", "--config", "smoke", "--tables", "partz"], "invalid choice: 'partz'"),
        (["run", "--config", "smoke", "--seeds", "0"], "'0' is not a whole number of at least 1"),
        (["report", "--seeds", "2"], "report takes no option but --json and --topology"),
    ],
)
def test_wrong_usage_is_refused(tmp_path, capsys, arguments, message):
    action, *rest = arguments
    try:
        code = main(["ablate", action, str(tmp_path / "made"), *rest])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_networks_are_variants_as_the_config_scales_them_and_files_as_they_are(invented, tmp_path):
    write_spec(tmp_path / "found.json", VARIANTS["efficientnetv2-b0"].scaled(0.25, 0.3))
    networks = ("--networks", "efficientnet-b0", str(tmp_path / "found.json"))
    assert run(tmp_path, "--config", "smoke", "--tables", "networks", "--seeds", "1", *networks) == 0
    expected = [VARIANTS["efficientnet-b0"].scaled(0.25, 0.1), VARIANTS["efficientnetv2-b0"].scaled(0.25, 0.3)]
    assert [config.model.spec() for config in invented] == expected


def test_a_config_that_cannot_run_leaves_no_folder(tmp_path, capsys):
    assert run(tmp_path, "--config", "smoke", "--config.progressive.image_size=(3,24)") == 1
    assert "needs images of at least" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_report_of_nothing_says_so(tmp_path, capsys):
    assert main(["ablate", "report", str(tmp_path)]) == 1
    assert "contains no ablation" in capsys.readouterr().err
