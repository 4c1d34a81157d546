"""Folders of images: `<data_dir>/train/<class>/<image>`, and `val/` in the same form or held-out training images."""

import dataclasses
import functools
import hashlib
import logging
import os
import posixpath
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.sources.source import Source, digest_of, share
from effnetv2_jax.paths import in_bucket

_log = logging.getLogger(__name__)

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")


@dataclasses.dataclass(frozen=True)
class FolderSplits:
    """The files of a folder data set.

    Attributes:
      data_dir: the folder that they lie in, a local path or `gs://…`.
      class_names: the names of the class folders, sorted.
      train: (path under `data_dir`, label) of each training image, sorted.
      evaluation: (path under `data_dir`, label) of each evaluation image, sorted.
      rule: a phrase that describes how the images were split.
    """

    data_dir: str
    class_names: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    evaluation: tuple[tuple[str, int], ...]
    rule: str

    @property
    def origin(self) -> str:
        """One line that changes when a file is added, is removed or changes its split."""
        lines = [f"{side} {path}" for side in ("train", "evaluation") for path, _ in getattr(self, side)]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return f"folder: {len(self.train)} + {len(self.evaluation)} images, {self.rule}, sha256 {digest[:16]}"

    @functools.cached_property
    def sizes(self) -> str:
        """A digest of the sizes of the files; "" in a bucket, where each size would take a request."""
        if in_bucket(self.data_dir):
            return ""
        images = [path.rpartition("/") for path, _ in (*self.train, *self.evaluation)]
        folders = sorted({folder for folder, _, _ in images})
        with ThreadPoolExecutor(32) as pool:
            listings = pool.map(lambda folder: _sizes_in(posixpath.join(self.data_dir, folder)), folders)
            sizes = dict(zip(folders, listings, strict=True))
        return digest_of(f"{folder}/{name} {sizes[folder].get(name)}" for folder, _, name in images)


@functools.lru_cache(maxsize=4)
def list_folder(data_dir: str, train: str, evaluation: str, *, holdout: float, holdout_seed: int) -> FolderSplits:
    """Lists the images of a folder data set.

    The result is cached for the life of the process, so that all stages of a run see the same files.

    Args:
      data_dir: a local path or `gs://…`.
      train: name of the folder of training images in `data_dir`.
      evaluation: name of the folder of evaluation images. If it does not exist, training images are held out.
      holdout: share of each class that is then held out, at least one image.
      holdout_seed: seed that selects the held-out images.

    Raises:
      FileNotFoundError: if there is no training folder.
      ValueError: if `train` or `evaluation` is not a plain folder name; there are no classes; a class is empty or too
        small to hold an image out; classes differ only by case; `evaluation` has a class that `train` lacks; or
        `holdout` is needed and not between 0 and 1.
    """
    for name in (train, evaluation):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(f"folder: {name!r} is not the plain name of a folder in data_dir")
    if not data_dir or not tf.io.gfile.isdir(posixpath.join(data_dir, train)):
        raise FileNotFoundError(
            f"folder: {posixpath.join(data_dir, train)!r} does not exist; data_dir must contain {train}/<class>/<image>"
        )
    classes = _images_by_class(data_dir, train)
    names = tuple(sorted(classes))
    if tf.io.gfile.isdir(posixpath.join(data_dir, evaluation)):
        held_out = _images_by_class(data_dir, evaluation)
        unknown = sorted(set(held_out) - set(classes))
        if unknown:
            raise ValueError(f"folder: {evaluation}/ has classes that {train}/ lacks: {', '.join(unknown)}")
        rule = f"{train}/ and {evaluation}/"
    else:
        if not 0 < holdout < 1:
            raise ValueError(f"folder: {evaluation}/ does not exist, and holdout {holdout} is not between 0 and 1")
        held_out = {name: _held_out(name, images, holdout, holdout_seed) for name, images in classes.items()}
        classes = {name: sorted(set(images) - set(held_out[name])) for name, images in classes.items()}
        rule = f"{holdout:g} of each class of {train}/ held out with seed {holdout_seed}"
    return FolderSplits(data_dir, names, _labelled(classes, names), _labelled(held_out, names), rule)


def list_evaluation_folder(folder: str) -> FolderSplits:
    """Lists the images of one folder, `<class>/<image>`, all of which are for evaluation.

    Args:
      folder: a local path or `gs://…`.

    Raises:
      FileNotFoundError: if the folder does not exist.
      ValueError: if there are no classes, a class has no images, or classes differ only by case.
    """
    if not tf.io.gfile.isdir(folder):
        raise FileNotFoundError(f"{folder!r} is not a folder")
    parent, name = posixpath.split(folder.rstrip("/"))
    classes = _images_by_class(parent, name)
    names = tuple(sorted(classes))
    return FolderSplits(parent, names, (), _labelled(classes, names), f"all of {name}/")


def open_folder(splits: FolderSplits, host_index: int, host_count: int, *, evaluation: bool) -> Source:
    """Opens one host's share of a listed folder.

    Raises:
      ValueError: if there are fewer images than hosts.
    """
    images = splits.evaluation if evaluation else splits.train
    # Every host_count-th image, because a contiguous share of the sorted list would lack most classes.
    mine = images[host_index::host_count]
    share(len(images), host_index, host_count)
    ids = tf.constant([path for path, _ in mine])
    labels = tf.constant(np.array([label for _, label in mine], np.int64))

    def read(seed: tf.Tensor | None) -> tf.data.Dataset:
        listed = ids, labels
        if seed is not None:
            draws = tf.random.stateless_uniform([len(mine)], tf.stack([seed, seed]), None, None, tf.int64, alg="philox")
            order = tf.argsort(draws)
            listed = tf.gather(ids, order), tf.gather(labels, order)
        entries = tf.data.Dataset.from_tensor_slices(listed)
        return entries.map(lambda path, label: {"id": path, "image": path, "label": label})

    return Source(
        num_examples=len(mine),
        largest_share=-(-len(images) // host_count),
        class_names=splits.class_names,
        origin=splits.origin,
        entry_bytes=2.0 * float(np.mean([len(path) for path, _ in mine])),
        read=read,
        load=lambda path: tf.io.read_file(tf.strings.join([splits.data_dir, path], separator="/")),
        sizes=lambda: splits.sizes,
    )


def _images_by_class(data_dir: str, split: str) -> dict[str, list[str]]:
    """Returns the sorted paths (under `data_dir`) of each class's images, `<split>/<class>/<image>`."""
    root = posixpath.join(data_dir, split)
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(root))
    names = [name for name in names if not name.startswith(".") and tf.io.gfile.isdir(posixpath.join(root, name))]
    _check_class_names(names, root)
    with ThreadPoolExecutor(32) as pool:
        listings = list(pool.map(lambda name: tf.io.gfile.listdir(posixpath.join(root, name)), names))
    classes = {}
    ignored = []
    for name, listing in zip(names, listings, strict=True):
        files = sorted(file for file in listing if not file.startswith("."))
        images = [file for file in files if file.lower().endswith(EXTENSIONS)]
        ignored += [posixpath.join(split, name, file) for file in files if not file.lower().endswith(EXTENSIONS)]
        if not images:
            raise ValueError(f"folder: class {name!r} in {root} contains no images ({', '.join(EXTENSIONS)})")
        classes[name] = [posixpath.join(split, name, file) for file in images]
    if ignored:
        _log.warning("ignored %d files without the extension of an image, such as %s", len(ignored), ignored[0])
    return classes


def _sizes_in(folder: str) -> dict[str, int]:
    """Returns the sizes of the files in a local folder, in bytes; -1 for a link to a file that is gone."""
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                sizes[entry.name] = entry.stat().st_size
            except OSError:
                sizes[entry.name] = -1
    return sizes


def _check_class_names(names: list[str], root: str) -> None:
    if not names:
        raise ValueError(f"folder: {root} contains no class folders")
    folded: dict[str, str] = {}
    for name in names:
        if folded.setdefault(name.casefold(), name) != name:
            raise ValueError(f"folder: classes {folded[name.casefold()]!r} and {name!r} in {root} differ only by case")


def _held_out(name: str, images: list[str], share_of_class: float, seed: int) -> list[str]:
    if len(images) < 2:
        raise ValueError(f"folder: class {name!r} has one image, too few to hold one out for evaluation")
    count = min(max(1, round(share_of_class * len(images))), len(images) - 1)
    return sorted(images, key=lambda path: hashlib.sha256(f"{seed} {path}".encode()).digest())[:count]


def _labelled(classes: dict[str, list[str]], names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((path, label) for label, name in enumerate(names) for path in sorted(classes.get(name, ())))
