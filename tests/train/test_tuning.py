"""Tunings: programs are compiled as a file says, and a file for other programs is refused."""

import json

import pytest
from train.smoke import OPTION
from train.smoke import write_tuning_of_smoke as made

from effnetv2_jax.cli.main import main
from effnetv2_jax.train.tuning import read_tuning

TRAIN = ("train", "--config", "configs/smoke.py", "--config.steps=4", "--config.tuning")


def test_a_file_that_is_read_holds_what_was_written(tmp_path):
    path = tmp_path / "tuning.json"
    written = made(path)
    assert read_tuning(str(path)) == written
    assert json.loads(path.read_text())["programs"]["stage_1"]["cycles"] == 5


def test_a_run_is_compiled_as_its_tuning_says(tmp_path, capsys):
    made(tmp_path / "tuning.json", devices=2)
    assert main([*TRAIN, str(tmp_path / "tuning.json"), "--workdir", str(tmp_path / "run")]) == 0
    programs = json.loads((tmp_path / "run" / "summary.json").read_text())["programs"]
    assert [programs[name]["accumulation_steps"] for name in ("stage_1", "stage_2")] == [2, 1]
    assert [programs[name]["compiler_options"] for name in ("stage_1", "stage_2")] == [{OPTION: "False"}, {}]
    said = capsys.readouterr().out
    assert f"of each device's memory; {OPTION}=False\n" in said
    assert f"stage_1, stage_2, evaluation: compiled as {tmp_path}/tuning.json says" in said.replace("\n", "")
    (start,) = json.loads((tmp_path / "run" / "starts.json").read_text())
    assert start["settings"]["stage_1"] == f"2 microbatches, rows 0 computed again, {OPTION}=False"


def test_an_option_that_the_compiler_does_not_know_is_left_out_with_a_warning(tmp_path, capsys):
    made(tmp_path / "tuning.json", devices=2, options={"xla_of_tomorrow": "1", OPTION: "False"})
    assert main([*TRAIN, str(tmp_path / "tuning.json"), "--workdir", str(tmp_path / "run")]) == 0
    programs = json.loads((tmp_path / "run" / "summary.json").read_text())["programs"]
    assert programs["stage_1"]["compiler_options"] == programs["evaluation"]["compiler_options"] == {OPTION: "False"}
    said = capsys.readouterr().out
    for program in ("stage 1", "evaluation"):
        warning = f"warning: this compiler does not know xla_of_tomorrow; {program} is compiled without it"
        assert said.count(warning) == 1


@pytest.mark.parametrize(
    ("differing", "message"),
    [
        ({"model.width": 0.5}, "was made for model.width 0.5, and the run has 0.25"),
        ({"batch_size": 64}, "for stage_1 with 32 images of 17 px on each device, and the run has 16 images of 17 px"),
        (
            {"progressive.stages": 1, "progressive.image_size": "(17,)"},
            "was made for stage_1, evaluation, and the run has stage_2 too",
        ),
        ({"microbatches": 3}, "does not fit the run: stage_1 has 3 microbatches"),
        ({"remat": (90,)}, "does not fit the run: stage_1 has 2 microbatches, rows 90 computed again"),
        ({"device": "v5e"}, "was made for v5e, and the run has cpu"),
    ],
)
def test_a_tuning_for_another_run_is_refused(tmp_path, capsys, differing, message):
    made(tmp_path / "tuning.json", devices=2, **differing)
    assert main([*TRAIN, str(tmp_path / "tuning.json"), "--workdir", str(tmp_path / "run")]) == 1
    assert f"{tmp_path}/tuning.json" in (said := capsys.readouterr().err)
    assert message in said


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "list indices must be"),
        ('{"format": 2}', "its format is 2, and this version reads 1"),
        ('{"format": 1}', "it has no 'programs'"),
        ('{"format": 1, "programs": {"a": {"image_size": 0}}}', "it has no 'compiler_options'"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, reason):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=f"x.json is not a file of `effnetv2 tune`: {reason}"):
        read_tuning(str(tmp_path / "x.json"))


def test_values_of_wrong_types_are_refused(tmp_path):
    made(tmp_path / "tuning.json")
    content = json.loads((tmp_path / "tuning.json").read_text())
    for change in ({"microbatches": 0}, {"microbatches": True}, {"remat": ["a"]}, {"compiler_options": {"a": 1}}):
        altered = json.loads(json.dumps(content))
        altered["programs"]["stage_1"] |= change
        (tmp_path / "altered.json").write_text(json.dumps(altered))
        with pytest.raises(ValueError, match=r"altered.json is not a file of `effnetv2 tune`"):
            read_tuning(str(tmp_path / "altered.json"))
