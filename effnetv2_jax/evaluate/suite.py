"""Evaluates weights on data: every candidate in each of its views, with one pass over the images for equal views."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.data.pipeline import batches_of_source
from effnetv2_jax.evaluate.candidate import Candidate
from effnetv2_jax.evaluate.image_results import ImageResults, gathered, joined
from effnetv2_jax.evaluate.image_step import ImageStep, make_image_step
from effnetv2_jax.evaluate.images.class_map import ClassMap, match_classes
from effnetv2_jax.evaluate.images.evaluation_data import EvaluationData
from effnetv2_jax.evaluate.images.view import View, ViewChoice
from effnetv2_jax.evaluate.scores import scores
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.recipe.losses import Loss

Progress = Callable[[str, int, int], None]
"""Called with what is evaluated, the number of images done and the number of all images."""

_WAITING = 2  # batches whose results the host does not fetch yet, so that it works ahead of the devices


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The results of one candidate, on one data set, in one view.

    Attributes:
      candidate: the weights.
      data: the images.
      view: how they were seen.
      classes: the classes that the network chose from.
      results: the result of each image, sorted by name.
    """

    candidate: Candidate
    data: EvaluationData
    view: View
    classes: ClassMap
    results: ImageResults

    def row(self) -> dict[str, Any]:
        """Returns what was evaluated and how, with its `scores`, as JSON values."""
        return {
            "checkpoint": self.candidate.checkpoint,
            "weights": self.candidate.averaging,
            "variant": self.candidate.provenance.spec.name,
            "data": self.data.name,
            **dataclasses.asdict(self.view),
            "classes": len(self.classes.columns),
            **scores(self.results),
        }


def evaluate_suite(
    candidates: Sequence[Candidate],
    data: EvaluationData,
    views: ViewChoice,
    *,
    batch_size: int,
    loss: Loss | None = None,
    only_data_classes: bool = False,
    progress: Progress = lambda *_: None,
) -> Iterator[Evaluation]:
    """Yields the evaluation of each candidate in each of its views, each image once, on all processes together.

    Candidates that see the images alike share a pass over the data. Every process gets all results.

    Args:
      candidates: the weights.
      data: the images.
      views: sizes, crops and so on; what is left out follows from the weights.
      batch_size: images in a step, on all devices together.
      loss: the loss to report; None for minus the logarithm of the probability of the image's classes.
      only_data_classes: whether a network chooses only from the classes of the data.
      progress: called for each batch.

    Raises:
      ValueError: if the classes of weights and data do not match, a size is too small for a network, an image cannot
        be decoded, or the batch does not divide over the devices.
      RuntimeError: if the data has another number of images than it announced.
    """
    sharding.check_batch_size("the batch", batch_size, jax.device_count(), jax.process_count())
    among = data.class_names if only_data_classes else data.among
    by_view: dict[View, list[_Member]] = collections.defaultdict(list)
    mesh = sharding.make_mesh()
    for candidate in candidates:
        member = _Member(candidate, _classes(candidate, data, among))
        for view in views.of(candidate.provenance):
            by_view[view].append(member)
    for view, group in by_view.items():
        for member, results in zip(group, _pass(group, data, view, mesh, batch_size, loss, progress), strict=True):
            whole = gathered(results)
            if len(whole.names) != data.examples:
                raise RuntimeError(f"{data.name} gave {len(whole.names)} images instead of {data.examples}")
            yield Evaluation(member.candidate, data, view, member.classes, whole)


@dataclasses.dataclass(frozen=True)
class _Member:
    candidate: Candidate
    classes: ClassMap


def _classes(candidate: Candidate, data: EvaluationData, among: Sequence[str]) -> ClassMap:
    try:
        return match_classes(data.class_names, candidate.class_names(), candidate.provenance.num_classes, among)
    except ValueError as error:
        raise ValueError(f"{candidate.checkpoint} on {data.name}: {error}") from error


def _pass(
    group: Sequence[_Member],
    data: EvaluationData,
    view: View,
    mesh: jax.sharding.Mesh,
    batch_size: int,
    loss: Loss | None,
    progress: Progress,
) -> list[ImageResults]:
    """Returns this process's results of each member of a group."""
    divided = sharding.batch_sharded(mesh)
    steps = [
        _program(each.candidate.model(), view.preprocessing, each.classes, view.flip, loss, mesh) for each in group
    ]
    variables = [sharding.replicate(member.candidate.weights.variables, mesh) for member in group]
    rows: collections.deque[Mapping[str, np.ndarray]] = collections.deque()
    waiting: collections.deque[tuple[list[dict[str, jax.Array]], Mapping[str, np.ndarray]]] = collections.deque()
    parts: list[list[ImageResults]] = [[] for _ in group]

    def fetch() -> None:
        outputs, row = waiting.popleft()
        for member, part, output in zip(group, parts, outputs, strict=True):
            part.append(_results(output, row, member.classes))

    text = f"{group[0].candidate.checkpoint} on {data.name} at {view.image_size} px"
    progress(text, 0, data.examples)
    for number, batch in enumerate(sharding.on_devices(_noted(_host_batches(data, view, batch_size), rows), divided)):
        waiting.append(([step(values, batch) for step, values in zip(steps, variables, strict=True)], rows.popleft()))
        if len(waiting) > _WAITING:
            fetch()
        progress(text, min((number + 1) * batch_size, data.examples), data.examples)
    while waiting:
        fetch()
    return [joined(part) for part in parts]


@functools.lru_cache(maxsize=8)
def _program(
    model: EfficientNetV2, preprocessing: str, classes: ClassMap, flip: bool, loss: Loss | None, mesh: jax.sharding.Mesh
) -> ImageStep:
    """Returns the step to call, which is compiled once for each shape of its batches, also for several data sets."""
    step = make_image_step(model, preprocessing_family(preprocessing), classes, flip=flip, loss=loss)
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    return jax.jit(step, in_shardings=(whole, divided), out_shardings=divided)


def _host_batches(data: EvaluationData, view: View, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    config: DataConfig = dataclasses.replace(data.config, preprocessing=view.preprocessing, eval_crop=view.crop)
    return batches_of_source(
        data.open(jax.process_index(), jax.process_count()),
        config,
        image_size=view.image_size,
        batch_size=batch_size // jax.process_count(),
        multi_hot=data.multi_hot,
        unlabelled=data.unlabelled,
        named=True,
    )


def _noted(
    batches: Iterator[dict[str, np.ndarray]], rows: collections.deque[Mapping[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    """Yields what the devices need of each batch, and appends the rest, which stays on the host."""
    for batch in batches:
        rows.append({key: batch[key] for key in ("id", "label", "mask")})
        yield {key: batch[key] for key in ("image", "label")}


def _results(outputs: Mapping[str, jax.Array], row: Mapping[str, np.ndarray], classes: ClassMap) -> ImageResults:
    """Returns the results of this process's rows of a batch, without the padding."""
    real = row["mask"] > 0
    names = np.array(row["id"][real].tolist(), dtype=np.bytes_)
    labels = _labels(row["label"][real], names, classes)
    return ImageResults(names, labels, **{name: _own_rows(array)[real] for name, array in outputs.items()})


def _own_rows(array: jax.Array) -> np.ndarray:
    """Returns the rows of a global array that this process holds."""
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def _labels(label: np.ndarray, names: np.ndarray, classes: ClassMap) -> np.ndarray:
    """Returns the classes of images as numbers of `classes`, int32 `[N, L]`, filled with -1.

    Args:
      label: int32 `[N]`, or multi-hot `[N, classes]`.
      names: the images' names.
      classes: the classes.

    Raises:
      ValueError: if a class of an image is not among those that the network chooses from.
    """
    of_data = np.array(classes.of_data)
    size = max(int(of_data.max(initial=-1)), label.shape[-1] - 1 if label.ndim == 2 else int(label.max(initial=0))) + 1
    number_of = np.full(size, -1, np.int32)
    number_of[of_data[of_data >= 0]] = np.flatnonzero(of_data >= 0)
    rows = [np.flatnonzero(row) for row in label] if label.ndim == 2 else list(label[:, None])
    found = np.full((len(rows), max([1, *map(len, rows)])), -1, np.int32)
    for name, row, numbers in zip(names, rows, found, strict=True):
        numbers[: len(row)] = np.sort(number_of[row])
        if len(row) and numbers[0] < 0:
            raise ValueError(f"{name.decode()} has a label that is not among the {len(of_data)} classes to choose from")
    return found
