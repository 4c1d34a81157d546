"""Pictures of what a network sees, without training it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from effnetv2_jax.data.augment.randaugment import operation_gallery
from effnetv2_jax.data.pipeline import eval_batches, train_batches
from effnetv2_jax.data.transform import operation_scales
from effnetv2_jax.train.devices.sharding import HostBatch
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.step import prepare
from effnetv2_jax.train.report import pictures

IMAGES = 32


def seen(experiment: Experiment, stage: Stage, batch: HostBatch, step: int) -> tuple[list[np.ndarray], list[str]]:
    """Returns the first images of a host's batch, uint8 `[H, W, 3]`, with a caption each.

    They are mixed as the stage mixes, but among themselves: in the step their partners may be any of the batch.
    """
    few = {name: array[:IMAGES] for name, array in batch.items()}
    prepared = jax.jit(lambda batch: prepare(experiment.recipe, stage, batch, jnp.asarray(step)))
    images, targets = (np.asarray(value) for value in prepared(few))
    family = experiment.recipe.family
    pixels = np.clip(np.rint(images * np.array(family.std) + np.array(family.mean)), 0, 255).astype(np.uint8)
    return list(pixels), pictures.target_captions(targets, experiment.facts.class_names)


def draw_batch(experiment: Experiment, stage: Stage, batch: HostBatch, step: int, path: epath.Path) -> None:
    """Draws the first images of a host's batch, see `seen`."""
    title = f"stage {stage.index + 1}: {stage.image_size} px, cropped, augmented and mixed"
    pictures.draw_grid(path, *seen(experiment, stage, batch, step), title)


def draw_stage(experiment: Experiment, stage: Stage, folder: Path) -> Path:
    """Draws images of the run's first epoch as a stage makes them into a folder; returns the picture's path."""
    path = folder / f"stage_{stage.index + 1}.png"
    batches = train_batches(
        dataclasses.replace(experiment.config.data, parts=1),
        image_size=stage.image_size,
        magnitude=stage.magnitude,
        batch_size=min(IMAGES, experiment.config.batch_size),
        start_step=0,
        seed=experiment.config.seed,
    )
    draw_batch(experiment, stage, next(batches), stage.first_step, epath.Path(path))
    return path


def draw_operations(experiment: Experiment, folder: Path) -> Path:
    """Draws each RandAugment operation, a row for each stage's size and magnitude; returns the picture's path."""
    path = folder / "operations.png"
    images, captions = zip(*_operations(experiment), strict=True)
    title = f"RandAugment, {experiment.config.data.operations} operations, a row for each stage"
    pictures.draw_grid(epath.Path(path), images, captions, title, columns=len(images) // len(experiment.stages))
    return path


def _operations(experiment: Experiment) -> Iterator[tuple[np.ndarray, str]]:
    data = experiment.config.data
    for stage in experiment.stages:
        image = next(eval_batches(data, image_size=stage.image_size, batch_size=1))["image"][0]
        scales = operation_scales(data, stage.image_size)
        gallery = operation_gallery(image, stage.magnitude, operations=data.operations, scales=scales)
        for name, result in gallery.items():
            yield np.asarray(result), f"{name} {stage.magnitude:.3g}"
