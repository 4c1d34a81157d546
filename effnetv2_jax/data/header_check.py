"""A look at the headers of a folder's images, which takes a second, before a run compiles its programs."""

import dataclasses
import functools
import itertools
import logging
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from effnetv2_jax.data.broken import allowed_broken, too_many_broken, training_limit
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.images.families import MAX_IMAGE_BYTES
from effnetv2_jax.data.images.image_header import ruled_out, why_not_decoded
from effnetv2_jax.data.sources.datasets import FOLDER, dataset_spec, resolve_splits
from effnetv2_jax.data.sources.folder import list_folder
from effnetv2_jax.paths import in_bucket
from effnetv2_jax.regular_file import checked_size

_log = logging.getLogger(__name__)

_MOST_IMAGES = 8192  # of each split
_SECONDS = 1.0
_THREADS = 8
_CHUNK = 32  # images that a thread looks at before it takes others
_NAMED = 5


@dataclasses.dataclass(frozen=True)
class HeaderLook:
    """What the headers of a split's images show.

    Attributes:
      images: number of images in the split.
      seen: number of images that were looked at.
      broken: paths under `data_dir` of those that cannot be decoded or read, sorted.
    """

    images: int
    seen: int
    broken: tuple[str, ...]

    def exceeds(self, max_broken: float) -> bool:
        """Returns whether more than the share `max_broken` of all images is broken, beyond reasonable doubt.

        If not all images were looked at, their number may exceed the expected one by five standard deviations.
        """
        if len(self.broken) > allowed_broken(max_broken, self.images):
            return True
        expected = max_broken * self.seen
        return self.seen < self.images and len(self.broken) > expected + 5 * math.sqrt(expected + 1)


def check_headers(config: DataConfig) -> None:
    """Looks at the headers of a local folder's images. It warns of broken training images as long as they are few.

    Other sources and folders in `gs://…` are not looked at.

    Raises:
      ValueError: if more training images are broken than `config.max_broken` allows, or an evaluation image is.
    """
    looks = header_looks(config)
    if looks is None:
        return
    train, evaluation = looks
    if train.exceeds(config.max_broken):
        raise _refusal(config, train, "training", training_limit(config.max_broken, train.images))
    if evaluation.broken:
        raise _refusal(config, evaluation, "evaluation", "evaluation allows none")
    if train.broken:
        count, first = len(train.broken), train.broken[0]
        _log.warning("of %d training images, %d cannot be decoded and will be replaced: %s …", train.seen, count, first)


def header_looks(config: DataConfig) -> tuple[HeaderLook, HeaderLook] | None:
    """Returns what the headers of the training and the evaluation images show; None unless they are a local folder.

    The result is cached for the life of the process.
    """
    if config.dataset != FOLDER or in_bucket(config.data_dir):
        return None
    splits = resolve_splits(dataset_spec(config.dataset), config.train_split, config.eval_split)
    return _looks(config.data_dir, *splits, holdout=config.holdout, holdout_seed=config.holdout_seed)


@functools.lru_cache(maxsize=4)
def _looks(
    data_dir: str, train: str, evaluation: str, *, holdout: float, holdout_seed: int
) -> tuple[HeaderLook, HeaderLook]:
    """Looks at the splits of `list_folder` in turn, until all selected images are seen or the time is up."""
    splits = list_folder(data_dir, train, evaluation, holdout=holdout, holdout_seed=holdout_seed)
    images = [[path for path, _ in split] for split in (splits.train, splits.evaluation)]
    selected = [_chunks(_selection(paths)) for paths in images]
    turns = [turn for turns in itertools.zip_longest(*selected, fillvalue=()) for turn in enumerate(turns)]
    deadline = time.monotonic() + _SECONDS

    def look(turn: tuple[int, Iterable[str]]) -> tuple[int, dict[str, bool]]:
        side, paths = turn
        return side, {path: _is_broken(Path(data_dir, path)) for path in paths if time.monotonic() < deadline}

    found: tuple[dict[str, bool], dict[str, bool]] = ({}, {})
    with ThreadPoolExecutor(_THREADS) as pool:
        for side, seen in pool.map(look, turns):
            found[side].update(seen)
    first, second = (
        HeaderLook(len(paths), len(seen), tuple(sorted(path for path in seen if seen[path])))
        for paths, seen in zip(images, found, strict=True)
    )
    return first, second


def _selection(paths: Sequence[str]) -> list[str]:
    """Returns all paths, or a fixed selection of many, in an order that mixes the classes."""
    chosen = np.random.default_rng(0).choice(len(paths), min(len(paths), _MOST_IMAGES), replace=False)
    return [paths[index] for index in chosen]


def _chunks(paths: Sequence[str]) -> list[Sequence[str]]:
    return [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]


def _is_broken(path: Path) -> bool:
    try:
        checked_size(path, MAX_IMAGE_BYTES)
        with path.open("rb") as file:
            return ruled_out(file)
    except (OSError, ValueError):
        return True


def _refusal(config: DataConfig, look: HeaderLook, kind: str, limit: str) -> ValueError:
    sample = f"of {look.images:,} images, the headers of {look.seen:,} were read: " if look.seen < look.images else ""
    reasons = {path: _why(Path(config.data_dir, path)) for path in look.broken[:_NAMED]}
    return too_many_broken(sample, reasons, len(look.broken), look.seen, kind, limit)


def _why(path: Path) -> str:
    try:
        checked_size(path, MAX_IMAGE_BYTES)
        return why_not_decoded(path.read_bytes())
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError as error:
        return f"is refused: {error}"
