"""`effnetv2 tune`: from the search to a plan with what it has found."""

import json

import pytest

from effnetv2_jax.cli.main import main
from effnetv2_jax.train.tuning import read_tuning

CONFIG = (
    "--config=configs/smoke.py", "--config.progressive.stages=1", "--config.progressive.image_size=(32,)",
    "--config.model.depth=0.1", "--config.batch_size=64", "--config.accumulation_steps=2", "--topology=v5e:1x1",
)  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The file, the picture and the cache of a search whose time is over once it has started."""
    folder = tmp_path_factory.mktemp("tuned")
    search = [f"--out={folder / 'tuning.json'}", f"--picture={folder / 'x.png'}", f"--cache={folder / 'cache'}"]
    assert main(["tune", *CONFIG, *search, "--budget=0.0001", "--price=2"]) == 0
    return folder


def test_the_file_holds_every_program_and_the_versions(found):
    tuning = read_tuning(str(found / "tuning.json"))
    assert tuning.device == "v5e"
    assert [settings.microbatches for settings in tuning.settings.values()] == [2, 1]
    assert tuning.made_with.keys() == {"effnetv2_jax", "jax", "libtpu"}
    stage = json.loads((found / "tuning.json").read_text())["programs"]["stage_1"]
    assert stage["cycles"] == stage["cycles_before"] > 0
    assert (found / "x.png").stat().st_size > 10_000


def test_a_plan_takes_the_file_and_compiles_nothing_again(found, capsys):
    path, cache = found / "tuning.json", found / "cache"
    before = sorted(cache.iterdir())
    # A plan's config is not the one of the search: the tuned number of microbatches replaces its own.
    config = [argument for argument in CONFIG if "accumulation" not in argument]
    assert main(["plan", *config, f"--config.tuning={path}", f"--cache={cache}", "--json"]) == 0
    assert [row["accumulation_steps"] for row in json.loads(capsys.readouterr().out)] == [2, 1]
    assert sorted(cache.iterdir()) == before
    assert main(["plan", *config[:-1], "--topology=v6e-8", f"--config.tuning={path}"]) == 1
    assert "was made for stage_1 with 64 images of 32 px on each device, and the run has 8" in capsys.readouterr().err
    assert main(["plan", *config[:-1], "--topology=v6e:1x1", f"--config.tuning={path}"]) == 1
    assert f"{path} was made for v5e, and the run has v6e" in capsys.readouterr().err


def test_a_plan_tells_an_older_program_and_options_that_the_compiler_does_not_know(found, capsys):
    content = json.loads((found / "tuning.json").read_text())
    content["programs"]["stage_1"]["digest"] = "that of another program"
    content["programs"]["evaluation"]["compiler_options"] = {"xla_of_tomorrow": "1"}
    (older := found / "older.json").write_text(json.dumps(content))
    assert main(["plan", *CONFIG, f"--config.tuning={older}", f"--cache={found / 'cache'}", "--json"]) == 0
    told = capsys.readouterr()
    assert f"stage_1, 32 px: {older} was made for an older version of this program" in told.err
    assert "evaluation, 24 px: this compiler does not know xla_of_tomorrow" in told.err
    assert told.err.count("warning") == 2
    rows = json.loads(told.out)
    assert [row["compiler_options"] for row in rows] == [{}, {}]
    assert {row["tuning"] for row in rows} == {str(older)}


def test_a_search_refuses_the_result_of_another(found, capsys):
    assert main(["tune", *CONFIG, f"--config.tuning={found / 'tuning.json'}"]) == 2
    assert "--config.tuning: a search starts without the results of another" in capsys.readouterr().err


def test_the_table_names_cycles_hours_and_money(found, capsys):
    search = [f"--out={found / 'again.json'}", f"--cache={found / 'cache'}", "--budget=0.0001", "--price=2"]
    assert main(["tune", *CONFIG, *search]) == 0
    told = capsys.readouterr()
    for words in ("M cycles", "stage_1: no options", "hours (1.000 of them)", "at 2 a chip-hour", "not measurements"):
        assert words in told.out
    assert f"use it with --config.tuning={found / 'again.json'}" in told.err
    assert "the 0.0001 minutes are over; the same command goes on from the 2 programs" in told.err
