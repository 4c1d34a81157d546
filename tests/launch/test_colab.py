"""launch/colab.ipynb, run from start to end on the CPU, with parameters for a small network."""

import contextlib
import importlib
import os
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from launch.conftest import ROOT
from nbclient import NotebookClient
from resolution import resolve

import effnetv2_jax as e

# Parameter → value. The assignments are added to the cell of parameters.
SMALL = {
    "IMAGE_SIZE": 32,
    "EPOCHS": 1,
    "BATCH_SIZE": 96,
    "EXPORT": "exported.safetensors",
    "OPTIONS": [
        *("--config.model.width=0.25", "--config.model.depth=0.1", "--config.steps=3"),
        f"--config.compilation_cache={ROOT / '.jax_cache'}",
    ],
}


@pytest.fixture
def notebook():
    return nbformat.read(ROOT / "launch/colab.ipynb", as_version=4)


def pretrained(path):
    """Saves weights of the small network in timm's format and returns the path."""
    import jax
    import jax.numpy as jnp

    spec = e.VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)
    variables = e.create_model(spec).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    e.save_variables(path, variables, spec, target="timm")
    return str(path)


def test_the_notebook_is_stored_without_outputs(notebook):
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell.outputs for cell in cells if cell.outputs or cell.execution_count]
    assert [cell.metadata.get("tags") for cell in cells].count(["parameters"]) == 1


def test_the_notebook_trains_and_exports_a_model_for_pytorch(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    values = SMALL | {"WEIGHTS": pretrained(tmp_path / "pretrained.safetensors")}
    parameters = next(cell for cell in notebook.cells if cell.metadata.get("tags") == ["parameters"])
    parameters.source += "\n" + "\n".join(f"{name} = {value!r}" for name, value in values.items())
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert "tensors come from" in printed
    assert "tensors; classifier.weight (10, " in printed
    assert (tmp_path / "runs/colab/summary.json").exists()


class Runtime:
    """An empty runtime, without the project and with a stand-in for pip, in which the notebook's install cell runs.

    Attributes:
      folder: where further packages lie.
      installs: what `pip install` does with the versions of packages, call by call: package → version, or None to fail.
      commands: the arguments of each call of pip.
      restarted: whether the cell has restarted the kernel.
    """

    def __init__(self, folder, monkeypatch):
        self.folder, self.installs, self.commands, self.restarted = folder, [], [], False
        (folder / "effnetv2_jax_clone").mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        monkeypatch.setattr("shutil.which", lambda _: None)
        monkeypatch.setattr("subprocess.run", self._run)
        monkeypatch.setattr("IPython.get_ipython", lambda: self)

    def package(self, name, version):
        """Writes a package of one module."""
        (self.folder / f"{name}.py").touch()
        metadata = self.folder / f"{name}.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (metadata / "RECORD").write_text(f"{name}.py,,\n")

    def run(self, notebook):
        """Runs the cell."""
        cell = next(cell for cell in notebook.cells if "effnetv2_jax_clone" in cell.source)
        exec(cell.source, {"REPOSITORY": "https://example.org/effnetv2_jax"})

    def _run(self, command, check=False):
        _, _, _, verb, *arguments = command
        self.commands.append((verb, *(str(argument) for argument in arguments)))
        changes = self.installs.pop(0) if verb == "install" and self.installs else {}
        if changes is None:
            assert not check
            return subprocess.CompletedProcess(command, 1)
        for name, version in changes.items():
            self.package(name, version)
        return subprocess.CompletedProcess(command, 0)

    @property
    def kernel(self):
        return self

    def do_shutdown(self, restart):
        self.restarted = restart


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    return Runtime(tmp_path, monkeypatch)


def test_the_install_cell_keeps_the_numpy_that_the_kernel_has_loaded(notebook, runtime):
    runtime.run(notebook)
    verb, *requirements = runtime.commands[-1]
    assert verb == "install"
    assert requirements[-1] == f"numpy=={np.__version__}"
    assert f"{runtime.folder / 'effnetv2_jax_clone'}[train,torch]" in requirements
    assert not runtime.restarted


@pytest.mark.parametrize("loaded", [True, False])
def test_the_install_cell_restarts_the_runtime_if_pip_exchanged_a_loaded_package(
    notebook, runtime, monkeypatch, loaded
):
    runtime.package("shelf", "1.0")
    if loaded:
        monkeypatch.setitem(sys.modules, "shelf", importlib.import_module("shelf"))
    runtime.installs = [None, {"shelf": "2.0"}]  # no version of JAX works with the loaded NumPy
    message = r"pip exchanged shelf\. The runtime restarts now\. Then run all cells again"
    with pytest.raises(RuntimeError, match=message) if loaded else contextlib.nullcontext():
        runtime.run(notebook)
    assert runtime.restarted == loaded
    installs = [command for command in runtime.commands if command[0] == "install"]
    assert [command[-1].startswith("numpy==") for command in installs] == [True, False]


def test_the_install_cell_removes_the_tensorflow_that_shares_files_with_tensorflow_cpu(notebook, runtime):
    runtime.package("tensorflow", "2.19.0")
    runtime.run(notebook)
    assert [command[0] for command in runtime.commands] == ["uninstall", "install"]
    assert runtime.commands[0][-1] == "tensorflow"


@pytest.mark.parametrize(
    ("python", "pins"),
    [
        pytest.param("3.13", ["numpy==2.1.3"], id="Colab, with jax 0.7.2 and without TensorFlow"),
        pytest.param("3.12", ["tensorflow-cpu==2.20.0"], id="Kaggle"),
    ],
)
def test_the_requirements_of_the_notebook_fit_what_a_tpu_runtime_keeps(notebook, runtime, monkeypatch, python, pins):
    monkeypatch.setattr("pathlib.Path.glob", lambda folder, _: [folder / "accel0"])
    runtime.run(notebook)
    monkeypatch.undo()
    _, _, project, *more, _numpy = runtime.commands[-1]
    extras = project.partition("[")[2].rstrip("]").split(",")
    assert more[0] == "jax[tpu]"
    resolved = resolve(runtime.folder, python, extras, more=more, pins=pins)
    assert {f"{name}=={resolved[name]}" for name in (pin.partition("==")[0] for pin in pins)} == set(pins)
    assert {"libtpu", "timm", "tensorflow-cpu"} <= resolved.keys()
