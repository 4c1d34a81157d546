"""A spec in a file trains, resumes, is evaluated, converted and exported like a variant, even without the file."""

import dataclasses
import json

import numpy as np
import pytest

from effnetv2_jax import VARIANTS
from effnetv2_jax.cli.main import main
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.model.spec_file import write_spec

# The network of configs/smoke.py, so that its compiled programs are those of other tests, with another name.
FOUND = dataclasses.replace(
    VARIANTS["efficientnetv2-b0"], name="found", width=0.25, depth=0.1, top1=None, citation="a search"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a spec's file, which is gone afterwards: how to start it, and its folder."""
    folder = tmp_path_factory.mktemp("found")
    write_spec(folder / "found.json", FOUND)

    def train(steps, variant="found.json"):
        fields = {"model.variant": folder / variant, "model.width": 1.0, "model.depth": 1.0, "steps": steps}
        overrides = [f"--config.{name}={value}" for name, value in fields.items()]
        return main(["train", "--config", "smoke", "--workdir", str(folder / "run"), *overrides])

    assert train(4) == 0
    (folder / "found.json").rename(folder / "moved.json")
    return train, folder


def test_the_run_folder_holds_the_spec(run):
    _, folder = run
    assert load_weights(str(folder / "run")).provenance.spec == FOUND
    assert json.loads((folder / "run/config.json").read_text())["model.variant"].startswith('{"name": "found"')


def test_the_run_is_evaluated_and_converted_without_the_file(run, tmp_path, capsys):
    _, folder = run
    assert main(["evaluate", "--workdir", str(folder / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["raw"]["count"] == 360
    target = tmp_path / "found.safetensors"
    assert main(["convert", str(folder / "run"), str(target), "--to", "timm"]) == 0
    assert load_weights(str(target)).provenance.spec == FOUND
    assert (
        main(
            [
                "convert",
                str(target),
                str(tmp_path / "f.safetensors"),
                "--to",
                "flax",
                "--variant",
                str(folder / "moved.json"),
            ]
        )
        == 0
    )
    first, second = (load_weights(str(path)).variables for path in (target, tmp_path / "f.safetensors"))
    np.testing.assert_array_equal(first["params"]["stem_conv"]["kernel"], second["params"]["stem_conv"]["kernel"])


def test_the_run_is_exported_without_the_file(run, tmp_path):
    _, folder = run
    assert main(["export", str(folder / "run"), str(tmp_path / "found.stablehlo"), "--to", "stablehlo"]) == 0


def test_weights_are_not_those_of_another_spec_of_the_same_name(run, tmp_path, capsys):
    _, folder = run
    rows = (dataclasses.replace(FOUND.rows[0], kernel_size=5), *FOUND.rows[1:])
    write_spec(tmp_path / "other.json", dataclasses.replace(FOUND, rows=rows))
    arguments = ["convert", str(folder / "run"), str(tmp_path / "f.safetensors"), "--to", "flax"]
    assert main([*arguments, "--variant", str(tmp_path / "other.json")]) == 1
    assert "with other rows of blocks than those given" in capsys.readouterr().err


def test_the_run_resumes_with_the_same_spec_under_another_path_and_with_no_other(run, capsys):
    train, folder = run
    rows = (*FOUND.rows[:-1], dataclasses.replace(FOUND.rows[-1], kernel_size=5))
    write_spec(folder / "found.json", dataclasses.replace(FOUND, rows=rows))
    assert train(5) == 1
    assert "contains a run with another configuration. Changed: model.variant" in capsys.readouterr().err
    assert train(5, "moved.json") == 0
