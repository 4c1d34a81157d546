"""launch/colab.ipynb, run from start to end on the CPU, with parameters for a small network."""

import os

import nbformat
import pytest
from launch.conftest import ROOT
from nbclient import NotebookClient

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
