"""`effnetv2 convert`, as a user calls it."""

import json
import tarfile

import pytest
from golden import reference

from effnetv2_jax.cli.main import main
from effnetv2_jax.convert.weights import load_weights, save_variables

TINY = ("--variant", "efficientnetv2-b0", "--width", "0.25", "--depth", "0.3")


def convert(*arguments):
    return main(["convert", *map(str, arguments)])


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """A file of ours; the file written of it is read back rather than run in PyTorch."""
    monkeypatch.setattr("effnetv2_jax.convert.verification.foreign_logits", lambda *_: None)
    save_variables(tmp_path / "ours.safetensors", reference.official_variables(reference.TINY, 10), reference.TINY)
    return tmp_path / "ours.safetensors"


def test_an_official_archive_to_timm_to_flax(tmp_path, ours, capsys):
    pytest.importorskip("tensorflow")
    source = tmp_path / "efficientnetv2-tiny.tgz"
    with tarfile.open(source, "w:gz") as archive:
        archive.add(reference.TINY_CHECKPOINT, "efficientnetv2-tiny")
    timm, flax = tmp_path / "timm.safetensors", tmp_path / "flax.safetensors"
    assert convert(source, timm, *TINY, "--from", "official", "--to", "timm") == 0
    said = capsys.readouterr().out
    assert "10 classes, averaged weights, from official:efficientnetv2-tiny.tgz" in said
    assert said.rstrip().endswith("exact")
    assert "largest difference of logits: 0 " in said
    assert convert(timm, flax, "--from", "timm", "--to", "flax") == 0
    weights = load_weights(flax)
    assert reference.equal(weights.variables, reference.official_variables(reference.TINY, 10, moving_average=True))
    assert weights.provenance.origin == "official:efficientnetv2-tiny.tgz"
    assert convert(source, flax, *TINY, "--from", "official", "--to", "flax", "--raw") == 0
    assert reference.equal(load_weights(flax).variables, reference.official_variables(reference.TINY, 10))


def test_json_says_that_torchvision_is_not_exact(tmp_path, ours, capsys):
    assert convert(ours, tmp_path / "w.safetensors", "--from", "flax", "--to", "torchvision", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["exact"] is False
    assert "torchvision pads symmetric" in said["deviation"]
    assert said["relative_difference"] > 1e-3
    assert said["provenance"]["variant"] == reference.TINY.name


def test_a_new_head_with_names(tmp_path, ours):
    (tmp_path / "names.txt").write_text("cat\ndog\nhen\n")
    arguments = ("--from", "flax", "--to", "flax", "--new-head", 3, "--class-names", tmp_path / "names.txt")
    assert convert(ours, tmp_path / "w.safetensors", *arguments, "--eval-size", 96, "--preprocessing", "finetune") == 0
    facts = load_weights(tmp_path / "w.safetensors").provenance
    assert (facts.num_classes, facts.class_names) == (3, ("cat", "dog", "hen"))
    assert (facts.eval_size, facts.preprocessing) == (96, "finetune")


def test_a_dropped_head(tmp_path, ours):
    assert convert(ours, tmp_path / "w.safetensors", "--from", "flax", "--to", "timm", "--drop-head") == 0
    assert "classifier" not in load_weights(tmp_path / "w.safetensors", source="timm").variables["params"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.safetensors", "w.safetensors", "--from", "flax", "--to", "timm"], 1, "nowhere.safetensors"),
        (["{ours}", "w.safetensors", "--from", "timm", "--to", "flax"], 1, "its names are those of flax"),
        (["{ours}", "w.pth", "--from", "flax", "--to", "timm"], 1, "not .pth"),
        (["{ours}", "w.safetensors", "--from", "flax", "--to", "article"], 1, "no network of article"),
        (["{ours}", "folder", "--from", "flax", "--to", "timm"], 1, "timm has no name for"),
        (["{ours}", "w.safetensors", "--from", "flax", "--to", "timm", "--variant", "x"], 1, "unknown variant 'x'"),
        (["{ours}", "w.safetensors", "--from", "flax", "--to", "timm", "--width", "2"], 2, "multiply a --variant"),
        (
            ["{ours}", "w.safetensors", "--from", "flax", "--to", "timm", "--new-head", "0"],
            2,
            "whole number of at least 1",
        ),
        (["{ours}", "w.safetensors", "--from", "flax", "--to", "official"], 2, "invalid choice: 'official'"),
    ],
)
def test_one_clear_line_for_what_is_wrong(tmp_path, ours, capsys, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    try:
        got = convert(*(argument.replace("{ours}", str(ours)) for argument in arguments))
    except SystemExit as stop:
        got = stop.code
    assert got == code
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
