"""The image files that a user names, one by one or by their folders."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from effnetv2_jax.data.images.families import MAX_IMAGE_BYTES
from effnetv2_jax.predict.images import FORMATS
from effnetv2_jax.regular_file import checked_size

# Files with these suffixes are taken for images without opening them, so that a damaged one is reported, not skipped.
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def image_files(given: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Returns the image files among the given files and folders, and remarks for the user on what was skipped.

    A file is returned as it is, even if it does not exist. A folder is replaced by the images in it and in its
    subfolders, sorted by path; hidden files and folders are left out, and so are files that are no images. A folder
    without images is returned itself, so that reading it reports this.

    Raises:
      OSError: if a folder cannot be read.
    """
    found: list[Path] = []
    notes = []
    for path in given:
        if not path.is_dir():
            found.append(path)
            continue
        files = list(_files(path))
        images = [file for file in files if _is_image(file)]
        found += images or [path]
        if len(files) > len(images):
            notes.append(f"{path}: skipped {len(files) - len(images):,} of {len(files):,} files, which are no images")
    return found, notes


def _files(folder: Path) -> Iterator[Path]:
    """Yields the visible files in a folder and its subfolders, sorted by path."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.is_symlink():  # a link could lead back to this folder
                yield from _files(entry)
        else:
            yield entry


def _is_image(path: Path) -> bool:
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        checked_size(path, MAX_IMAGE_BYTES)
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS):
            return True
    except Exception:  # the readers of Pillow's many formats fail on other files in many ways
        return False
