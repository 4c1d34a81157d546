"""`--config`: the project's own configs from any folder, and files of the user."""

import types

import pytest

from effnetv2_jax.cli.main import main
from effnetv2_jax.cli.options.config_file import UsageError, load_config
from effnetv2_jax.cli.options.own_configs import config_path, is_config, own_configs
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


RETURN = "from effnetv2_jax.train.config import ModelConfig, TrainConfig\ndef get_config(): return "
# What a user's config file contains → what the message says after its path.
FAILING = {
    "def get_config(:": ": SyntaxError: invalid syntax (mine.py, line 1)",
    "a = '\0'": ": SyntaxError: source code",
    "import nothing_like_this": ", line 1: ModuleNotFoundError: No module named 'nothing_like_this'",
    "x = 1\nraise RuntimeError('a\\nb')": ", line 2: RuntimeError: a",
    "import sys; sys.exit(3)": ", line 1: SystemExit: 3",
    "def get_config():\n    return {}['x']": ", line 2: KeyError: 'x'",
    "def get_config():\n    return 1 / 0": ", line 2: ZeroDivisionError: division by zero",
    "def get_config():\n    raise ValueError": ", line 2: ValueError",
    "def get_config():\n    raise ValueError('b')": ", line 2: ValueError: b",
    "def get_config():\n    return open('/no/such/file')": ", line 2: FileNotFoundError: [Errno 2]",
    "def get_config():\n    return get_config()": ", line 2: RecursionError: maximum recursion depth exceeded",
    "def get_config(argument):\n    return argument": ": TypeError: get_config() missing 1 required positional",
    "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E": ", line 3: E",
    "": " has no function get_config",
    "get_config = 5": " has no function get_config",
    "def get_config(): pass": ": get_config must return a TrainConfig, got NoneType",
    "def get_config(): return {}": ": get_config must return a TrainConfig, got dict",
    f"{RETURN}TrainConfig": ": get_config must return a TrainConfig, got type",
    f"{RETURN}TrainConfig(seed='a')": ": seed must be int, got 'a'",
    f"{RETURN}TrainConfig(model=5)": ": model must be ModelConfig, got 5",
    f"{RETURN}TrainConfig(model=ModelConfig(remat=(1.5,)))": ": model.remat must be a tuple of int, got (1.5,)",
    f"{RETURN}TrainConfig(model=ModelConfig(dtype='int8'))": ": model.dtype must be 'float32' or 'bfloat16', got",
}


@pytest.mark.parametrize("content", FAILING)
def test_a_config_file_that_fails_is_reported_in_one_line_with_its_line(folder, capsys, content):
    (folder / "mine.py").write_text(content)
    assert main(["config", "mine.py"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"effnetv2 config: mine.py{FAILING[content]}")
    assert error.count("\n") == 1


def test_a_config_file_does_not_see_the_one_before_it(folder):
    mine(folder, "first.py")
    (folder / "second.py").touch()
    assert load("first.py").seed == 42
    with pytest.raises(UsageError, match=r"second\.py has no function get_config"):
        load("second.py")


@pytest.mark.parametrize("name", ["a\0b.py", "a" * 5000, "../" * 2000, "digits:" + "a" * 5000, "imagenet1k:../../etc"])
def test_a_name_that_no_config_has_is_refused(name):
    with pytest.raises(UsageError, match=r"not found|too long|takes 0 positional|unknown variant '\.\./\.\./etc'"):
        load(name)


@pytest.mark.parametrize(
    "override",
    [
        *("--flagfile=/etc/passwd", "--undefok=seed", "--noconfig.seed", "--config=x", "--", "--seed=1", "word"),
        *(
            "--config.=1",
            "--config.seed",
            "--config.model=3",
            "--config.model.variant.x=3",
            "--config.model.__class__=x",
        ),
        *("--config.model.remat=((((", "--config.model.remat=__import__('os')", "--config.batch_size=" + "9" * 10_000),
        *("--config.batch_size=1.5", "--config.batch_size=None", "--config.loss.kind=\x1b[2J"),
    ],
)
def test_an_argument_that_is_no_field_with_its_value_is_refused(override):
    with pytest.raises(UsageError) as refused:
        load("digits", override)
    assert "root:" not in str(refused.value)  # no file is read
