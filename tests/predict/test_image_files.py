"""The images in folders, and what is skipped."""

from pathlib import Path

import pytest
from PIL import Image

from effnetv2_jax.predict.image_files import image_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with images and other files in it and in subfolders."""
    monkeypatch.chdir(tmp_path)
    for name in ("val/dog/2.png", "val/dog/10.png", "val/cat/1.bmp", "val/.cache/3.png", "val/x.image"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(name, None if Path(name).suffix != ".image" else "PNG")
    Path("val/broken.jpg").write_bytes(b"")
    for name in ("val/.DS_Store", "val/dog/labels.csv", "val/readme"):
        Path(name).write_text("some text")
    Path("val/dog/loop").symlink_to("..")
    return Path("val")


def test_a_folder_is_replaced_by_its_images_sorted(folder):
    found, notes = image_files([Path("a.jpg"), folder])
    names = [
        "broken.jpg",
        "cat/1.bmp",
        "dog/10.png",
        "dog/2.png",
        "x.image",
    ]  # the last one is known by its content only
    assert found == [Path("a.jpg"), *(folder / name for name in names)]
    assert notes == ["val: skipped 2 of 7 files, which are no images"]


def test_a_given_file_is_kept_whatever_it_is(folder):
    assert image_files([folder / "readme", folder / ".cache/3.png"]) == (
        [folder / "readme", folder / ".cache/3.png"],
        [],
    )


def test_a_folder_without_images_stays(folder):
    (folder / "empty").mkdir()
    assert image_files([folder / "empty"]) == ([folder / "empty"], [])
