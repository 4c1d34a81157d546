"""Image files in a folder, each with any number of labels, which do not follow from its path."""

import posixpath
from collections.abc import Mapping, Sequence

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.sources.folder import EXTENSIONS
from effnetv2_jax.data.sources.source import Source, digest_of, share


def list_images(folder: str) -> tuple[str, ...]:
    """Returns the paths of all images in a folder and its subfolders, relative to it and sorted by file name.

    Args:
      folder: a local path or `gs://…`.

    Raises:
      FileNotFoundError: if the folder does not exist.
      ValueError: if it contains no images.
    """
    if not tf.io.gfile.isdir(folder):
        raise FileNotFoundError(f"{folder!r} is not a folder")
    found = [
        posixpath.join(parent, name)[len(folder) :].lstrip("/")
        for parent, _, names in tf.io.gfile.walk(folder)
        for name in names
        if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    ]
    if not found:
        raise ValueError(f"{folder!r} contains no images ({', '.join(EXTENSIONS)})")
    return tuple(sorted(found, key=lambda path: (posixpath.basename(path), path)))


def open_labelled_files(
    folder: str,
    labels: Mapping[str, Sequence[int]],
    class_names: tuple[str, ...],
    host_index: int = 0,
    host_count: int = 1,
) -> Source:
    """Opens one host's share of the images; an entry's `label` is int64 `[k]`.

    Args:
      folder: a local path or `gs://…`.
      labels: path of an image under `folder` → its classes.
      class_names: the names of the classes.
      host_index: index of this host.
      host_count: number of hosts.

    Raises:
      ValueError: if there are fewer images than hosts.
    """
    share(len(labels), host_index, host_count)
    mine = list(labels)[host_index::host_count]
    most = max(len(classes) for classes in labels.values())
    padded = np.full((len(mine), most), -1, np.int64)
    for row, path in zip(padded, mine, strict=True):
        row[: len(labels[path])] = labels[path]

    def read(seed: tf.Tensor | None) -> tf.data.Dataset:
        if seed is not None:
            raise ValueError("these images are for evaluation, which reads them in the stored order")
        entries = tf.data.Dataset.from_tensor_slices((mine, padded))
        return entries.map(lambda path, row: {"id": path, "image": path, "label": tf.boolean_mask(row, row >= 0)})

    return Source(
        num_examples=len(mine),
        largest_share=-(-len(labels) // host_count),
        class_names=class_names,
        origin=f"files: {len(labels)} images, sha256 {digest_of(f'{path} {labels[path]}' for path in labels)}",
        entry_bytes=2.0 * float(np.mean([len(path) for path in mine])),
        read=read,
        load=lambda path: tf.io.read_file(tf.strings.join([folder, path], separator="/")),
    )
