"""`effnetv2 convert`, as a user calls it."""

import json
import sys
import tarfile

import pytest
from golden import reference

from effnetv2_jax.cli.main import main
from effnetv2_jax.convert.weights import load_weights, save_variables

TINY = ("--variant", "efficientnetv2-b0", "--width", "0.25", "--depth", "0.3")


def convert(*arguments):
    return main(["convert", *map(str, arguments)])


@pytest.fixture
def flax_file(tmp_path, monkeypatch):
    """A flax file; files converted from it are read back rather than run in PyTorch."""
    for package in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, package, None)
    save_variables(tmp_path / "flax.safetensors", reference.official_variables(reference.TINY, 10), reference.TINY)
    return tmp_path / "flax.safetensors"


@pytest.mark.usefixtures("flax_file")
def test_an_official_archive_is_converted_to_timm_and_to_flax(tmp_path, capsys):
    downloaded = tmp_path / "efficientnetv2-tiny.tgz"
    with tarfile.open(downloaded, "w:gz") as archive:
        archive.add(reference.TINY_CHECKPOINT, "efficientnetv2-tiny")
    timm, flax = tmp_path / "timm.safetensors", tmp_path / "flax.safetensors"
    assert convert(downloaded, timm, *TINY, "--to", "timm") == 0
    output = capsys.readouterr().out
    assert "10 classes, averaged weights, from official:efficientnetv2-tiny.tgz" in output
    assert output.rstrip().endswith("against the file read back (timm is not installed): exact")
    assert "largest difference of logits: 0 " in output
    assert convert(timm, flax, "--to", "flax") == 0
    weights = load_weights(flax)
    assert reference.equal(weights.variables, reference.official_variables(reference.TINY, 10, moving_average=True))
    assert weights.provenance.origin == "official:efficientnetv2-tiny.tgz"
    assert convert(downloaded, flax, *TINY, "--framework", "official", "--to", "flax", "--raw") == 0
    assert reference.equal(load_weights(flax).variables, reference.official_variables(reference.TINY, 10))


def test_json_reports_that_torchvision_is_not_exact(tmp_path, flax_file, capsys):
    assert convert(flax_file, tmp_path / "w.safetensors", "--to", "torchvision", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["exact"] is False
    assert "torchvision uses padding symmetric" in result["deviation"]
    assert "torchvision is not installed" in result["against"]
    assert result["computed_by"] == "flax"
    assert result["relative_difference"] > 1e-3
    assert result["provenance"]["variant"] == reference.TINY.name


def test_a_new_head_and_its_class_names_are_written(tmp_path, flax_file):
    (tmp_path / "names.txt").write_text("cat\ndog\nhen\n")
    head = ("--new-head", 3, "--class-names", tmp_path / "names.txt")
    evaluation = ("--eval-size", 96, "--preprocessing", "finetune")
    assert convert(flax_file, tmp_path / "w.safetensors", "--to", "flax", *head, *evaluation) == 0
    provenance = load_weights(tmp_path / "w.safetensors").provenance
    assert (provenance.num_classes, provenance.class_names) == (3, ("cat", "dog", "hen"))
    assert (provenance.eval_size, provenance.preprocessing) == (96, "finetune")


def test_a_dropped_head_is_not_written(tmp_path, flax_file):
    assert convert(flax_file, tmp_path / "w.safetensors", "--to", "timm", "--drop-head") == 0
    assert "classifier" not in load_weights(tmp_path / "w.safetensors").variables["params"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.safetensors", "w.safetensors", "--to", "timm"], 1, "nowhere.safetensors does not exist"),
        (["nowhere.tgz", "w.safetensors", "--to", "timm"], 1, "nowhere.tgz does not exist"),
        (["nowhere.pth", "w.safetensors", "--to", "timm", "--framework", "timm"], 1, "nowhere.pth does not exist"),
        (["runs/nowhere", "w.safetensors", "--to", "timm"], 1, "runs/nowhere does not exist"),
        (["{flax_file}", "w.safetensors", "--framework", "timm", "--to", "flax"], 1, "its names are those of flax"),
        (["{flax_file}", "w.pth", "--to", "timm"], 1, "not to .pth"),
        (["{flax_file}", "w.safetensors", "--to", "article"], 1, "article has no network"),
        (["{flax_file}", "folder", "--to", "flax"], 1, "not to a folder"),
        (["{flax_file}", "w.safetensors", "--to", "timm", "--variant", "x"], 1, "unknown variant 'x'"),
        (["{flax_file}", "w.safetensors", "--to", "timm", "--width", "2"], 2, "multiply the sizes of a --variant"),
        (["{flax_file}", "w.safetensors", "--to", "timm", "--new-head", "0"], 2, "whole number of at least 1"),
        (["{flax_file}", "w.safetensors", "--to", "official"], 2, "invalid choice: 'official'"),
        (["{flax_file}", "w.safetensors", "--to", "timm", "--framework", "x"], 2, "invalid choice: 'x'"),
    ],
)
def test_errors_are_reported_and_nothing_is_written(tmp_path, flax_file, capsys, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    try:
        got = convert(*(argument.replace("{flax_file}", str(flax_file)) for argument in arguments))
    except SystemExit as stop:
        got = stop.code
    assert got == code
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
