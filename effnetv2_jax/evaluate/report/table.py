"""A table of results like timm's: size and cost of networks, their speed on this machine, and their accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.evaluate.candidate import Candidate
from effnetv2_jax.evaluate.images.view import View, ViewChoice
from effnetv2_jax.evaluate.suite import Evaluation
from effnetv2_jax.model.summary import count_multiply_adds, count_parameters
from effnetv2_jax.model.variables import Variables
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.recipe.step import normalize


def result_rows(
    candidates: Iterable[Candidate],
    views: ViewChoice,
    evaluations: Iterable[Evaluation],
    *,
    batch_size: int,
    steps: int,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[dict[str, Any]]:
    """Yields a row for each candidate in each of its views, and for each data set that it was evaluated on.

    A row has what `Evaluation.row` has, and the numbers of `parameters` and `multiply_adds`; `megabytes`, 10^6 bytes of
    float32 variables; and `images_per_second` on all devices, for batches of `batch_size` images.

    Args:
      candidates: the weights.
      views: sizes, crops and so on.
      evaluations: the evaluations of these; none leaves the accuracies out.
      batch_size: images in a step, on all devices together.
      steps: number of steps to time.
      report: shows what is being done.

    Raises:
      ValueError: if a size is too small for a network, or the batch does not divide over the devices.
    """
    sharding.check_batch_size("the batch", batch_size, jax.device_count(), jax.process_count())
    done = list(evaluations)
    for candidate in candidates:
        provenance, variables = candidate.provenance, candidate.weights.variables
        for view in views.of(provenance):
            report(f"timing {candidate.checkpoint} at {view.image_size} px")
            cost = {
                "parameters": count_parameters(provenance.spec, provenance.num_classes),
                "multiply_adds": count_multiply_adds(provenance.spec, view.image_size, provenance.num_classes),
                "megabytes": sum(leaf.nbytes for leaf in jax.tree.leaves(variables)) / 1e6,
                "batch_size": batch_size,
                "images_per_second": images_per_second(candidate, view, batch_size, steps),
            }
            own = {
                "checkpoint": candidate.checkpoint,
                "weights": candidate.averaging,
                "variant": provenance.spec.name,
                "image_size": view.image_size,
                "crop": view.crop,
            }
            accuracies = [each.row() for each in done if each.candidate is candidate and each.view == view]
            for accuracy in accuracies or [{}]:
                yield own | cost | accuracy


def images_per_second(candidate: Candidate, view: View, batch_size: int, steps: int) -> float:
    """Returns the images that all devices classify in a second: the median of `steps` batches of random images."""
    mesh = sharding.make_mesh()
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    model, family = candidate.model(), preprocessing_family(view.preprocessing)

    def classify(variables: Variables, images: jax.Array) -> Any:
        return model.apply(variables, normalize(images, family), train=False)

    program = jax.jit(classify, in_shardings=(whole, divided), out_shardings=divided)
    variables = sharding.replicate(candidate.weights.variables, mesh)
    shape = (batch_size // jax.process_count(), view.image_size, view.image_size, 3)
    images = sharding.global_batch({"image": np.random.default_rng(0).integers(0, 256, shape, np.uint8)}, divided)
    seconds = []
    for _ in range(steps + 1):  # the first call compiles
        start = time.perf_counter()
        jax.block_until_ready(program(variables, images["image"]))
        seconds.append(time.perf_counter() - start)
    return batch_size / float(np.median(seconds[1:]))
