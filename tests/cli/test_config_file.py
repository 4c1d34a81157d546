"""`--config`: the project's own configs from any folder, and files of the user."""

import types

import pytest

from effnetv2_jax.cli.config_file import UsageError, load_config
from effnetv2_jax.cli.main import main
from effnetv2_jax.cli.own_configs import config_path, is_config, own_configs
from effnetv2_jax.train.config import TrainConfig

MINE = "from effnetv2_jax.train.config import TrainConfig\n\n\ndef get_config():\n    return TrainConfig(seed=42)\n"
OWN = ["digits", "finetune", "imagenet1k", "imagenet21k", "smoke"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder: an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(config, *overrides):
    return load_config(types.SimpleNamespace(config=config, overrides=list(overrides)))


def mine(folder, name):
    """Writes a config of the user."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(MINE)
    return path


@pytest.mark.parametrize("form", ["{}", "{}.py", "configs/{}", "configs/{}.py", "./{}.py"])
def test_an_own_config_is_found_from_any_folder(form):
    assert list(own_configs()) == OWN
    assert {name: config_path(form.format(name)) for name in OWN} == own_configs()
    config = load(form.format("imagenet1k") + ":efficientnetv2-m,paper", "--config.seed=3")
    assert isinstance(config, TrainConfig)
    assert (config.model.variant, config.progressive.preset, config.seed) == ("efficientnetv2-m", "paper", 3)


@pytest.mark.parametrize("name", ["mine.py", "configs/digits.py", "digits.py", "experiments/digits.py"])
def test_a_user_s_file_is_taken_if_its_path_is_given(folder, name):
    path = mine(folder, name)
    assert load(name).seed == load(str(path)).seed == 42


@pytest.mark.parametrize("name", ["digits", "digits.py", "configs/digits.py"])
def test_a_bare_name_means_the_own_config_whatever_the_folder_has(folder, name):
    mine(folder, name)
    assert config_path("digits") == own_configs()["digits"]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("imagenet", "; did you mean imagenet1k?"),
        ("configs/smok.py", "; did you mean smoke?"),
        ("mine", "; did you mean mine.py?"),
        ("min.py", "; did you mean mine.py?"),
        ("experiments/digits.py", "; did you mean digits?"),
        ("experiments", ""),
        ("", ""),
        ("nothing/like.this", ""),
    ],
)
def test_an_unknown_config_is_refused_with_a_similar_name_and_the_own_ones(folder, name, suggestion):
    mine(folder, "mine.py")
    (folder / "experiments").mkdir()
    with pytest.raises(UsageError) as refused:
        load(name)
    assert str(refused.value) == f"config {name!r} not found{suggestion} (the project's own configs: {', '.join(OWN)})"


def test_plan_compares_with_a_config_by_name_and_with_a_tpu():
    assert is_config("finetune:efficientnetv2-s,cifar10")
    assert is_config("experiments/mine.py")
    assert not is_config("v5e:2x4")


def test_the_help_says_which_config_a_name_means(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"one of the project's own configs ({', '.join(OWN)}) or a path" in text
    assert "your file if it exists, and otherwise the project's own config" in text
