"""The project's own tunings: each program of a run takes the settings that were found for the same work."""

import dataclasses
import re

import pytest

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.dataset import recorded_info
from effnetv2_jax.train import tuned_programs
from effnetv2_jax.train.config import EvaluationConfig, ModelConfig, TrainConfig
from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.devices.chips import CHIPS
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig
from effnetv2_jax.train.run_folder.starts import differences, start_record
from effnetv2_jax.train.tuned_programs import tuned_fields
from effnetv2_jax.train.tuning import Settings, Tuning, Work, write_tuning

FAST = {"fast": "1"}


def run_of(devices=8, device="v5e", stages=(32, 40), **fields):
    values = {"batch_size": 4096, "accumulation_steps": "auto"} | fields
    config = TrainConfig(
        model=dataclasses.replace(
            ModelConfig("efficientnetv2-b0", width=0.25, depth=0.1, bn_group_size=1024), **values.pop("model", {})
        ),
        data=DataConfig("digits"),
        progressive=ProgressiveConfig(preset="custom", stages=len(stages), image_size=stages),
        evaluation=EvaluationConfig(batch_size=1024, image_size=40),
        steps=10,
        **values,
    )
    return make_experiment(config, devices, info=recorded_info(config.data), device=device)


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """Replaces the project's own tunings by one, made for microbatches of 128 and of 256 images on each of 8 chips."""
    monkeypatch.setattr(tuned_programs, "FOLDER", tmp_path)
    tuned_programs.own_tunings.cache_clear()
    yield tmp_path
    tuned_programs.own_tunings.cache_clear()


def add(folder, name="own_v5e-8.json", images=512, option="1", **model):
    run = run_of(8, "", model=model)
    work = {"stage_1": Work(32, images), "stage_2": Work(40, images), "evaluation": Work(40, 128)}
    settings = {
        "stage_1": Settings(images // 128, (), {"fast": option}),
        "stage_2": Settings(images // 256, (0,), {"fast": option}),
        "evaluation": Settings(1, (), {"fast": option}),
    }
    digests = {name: f"digest of {name}" for name in work}
    tuning = Tuning("v5e", tuned_fields(run.config), work, settings, {"jax": "0.1"}, "v5e:2x4", digests)
    write_tuning(str(folder / name), tuning, {})
    tuned_programs.own_tunings.cache_clear()


def test_a_run_takes_the_settings_that_were_found_for_its_programs(own):
    add(own)
    run = run_of()
    assert {name: (tuned.settings, tuned.choices[:2]) for name, tuned in run.tuned.items()} == {
        "stage_1": (Settings(4, (), FAST), (4, 8)),
        "stage_2": (Settings(2, (0,), FAST), (2, 4)),
        "evaluation": (Settings(1, (), FAST), (1,)),
    }
    assert run.tuned["stage_1"].digest == "digest of stage_1"
    assert run.tuning_lines() == ["stage_1, stage_2, evaluation: compiled as the project's own_v5e-8.json says"]
    assert run.microbatches("stage_2")[:2] == (2, 4)  # the second only if the first does not fit the memory
    assert run.settings("evaluation").compiler_options == FAST


def test_stages_are_matched_by_their_image_size(own):
    add(own)
    run = run_of(stages=(24, 32, 36))
    assert {name: tuned.settings.microbatches for name, tuned in run.tuned.items()} == {"stage_2": 4, "evaluation": 1}
    assert run.microbatches("stage_1") == run.accumulation


def test_another_batch_takes_as_many_microbatches_as_give_the_same_images_on_a_device(own):
    add(own)
    run = run_of(16)  # 256 images on each device, and 64 in evaluation
    assert {name: tuned.settings.microbatches for name, tuned in run.tuned.items()} == {"stage_1": 2, "stage_2": 1}
    assert run.tuned["stage_1"].origin == "the project's own_v5e-8.json, made for 512 images on each device"
    assert run.tuned["stage_1"].digest == ""
    assert run_of(32).tuned.keys() == {"stage_1"}  # 128 images on each device: none for microbatches of 256
    assert not run_of(8, batch_size=3072 + 1024 * 3 // 2, model={"bn_group_size": 0}).tuned


def test_one_for_the_same_batch_goes_first(own):
    add(own, "a.json", images=256, option="2")
    add(own, "b.json")
    assert run_of().settings("stage_1").compiler_options == FAST
    assert run_of(16).settings("stage_1").compiler_options == {"fast": "2"}


@pytest.mark.parametrize(
    "other",
    [
        {"device": "v6e"},
        {"device": ""},
        {"tuning": "none"},
        {"model": {"dtype": "bfloat16"}},
        {"model": {"width": 0.5}},
        {"model": {"bn_group_size": 512}},
    ],
    ids=str,
)
def test_a_run_on_other_devices_or_of_another_network_takes_none(own, other):
    add(own)
    run = run_of(**other)
    assert run.tuned == {}
    assert run.settings("stage_1") == Settings()


def test_what_the_config_fixes_stays_as_it_is(own):
    add(own)
    assert run_of(accumulation_steps="4").tuned.keys() == {"stage_1", "evaluation"}
    assert run_of(accumulation_steps="1").tuned.keys() == {"evaluation"}
    assert run_of(model={"remat": (0,)}).tuned.keys() == {"stage_2", "evaluation"}
    assert run_of(model={"bn_momentum": 0.5}).tuned.keys() == {"stage_1", "stage_2", "evaluation"}


def test_batch_normalisation_keeps_its_groups(own):
    add(own, bn_group_size=2048)
    # Microbatches of 128 images on 8 devices have fewer images than a group.
    assert run_of(model={"bn_group_size": 2048}).tuned.keys() == {"stage_2", "evaluation"}


def test_no_tuning_is_named_by_a_word_only():
    with pytest.raises(ValueError, match="tuning must be 'auto', 'none' or a file of `effnetv2 tune`, got ''"):
        run_of(tuning="")
    with pytest.raises(FileNotFoundError):
        run_of(tuning="automatic")


def test_a_run_that_is_compiled_otherwise_says_so_when_it_resumes(own):
    before = run_of()
    add(own)
    records = [start_record(5, (10,), {}, run.identity().settings) for run in (before, run_of())]
    (line,) = differences(*records)
    assert "stage_1 (without a tuning → 4 microbatches, fast=1)" in line
    assert "from here on the run has other bits" in line
    assert differences(records[1], records[1]) == []
    del records[0]["settings"]  # a run of an older version
    assert len(differences(*records)) == 1


def test_the_tunings_in_the_package_are_sound(monkeypatch):
    monkeypatch.undo()
    tuned_programs.own_tunings.cache_clear()
    for name, tuning in tuned_programs.own_tunings().items():
        assert re.fullmatch(rf"[\w-]+_{tuning.device}-\d+\.json", name)
        assert tuning.device in CHIPS
        assert tuning.topology.startswith(f"{tuning.device}:")
        assert tuning.made_with.keys() == {"effnetv2_jax", "jax", "libtpu"}
        assert all(len(digest) == 64 for digest in tuning.digests.values())
