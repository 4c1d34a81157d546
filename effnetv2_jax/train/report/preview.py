"""Pictures of the images that a network is trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from effnetv2_jax.data.augment.augmentation import operation_scales
from effnetv2_jax.data.augment.gallery import operation_gallery
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.pipeline import eval_batches, train_batches
from effnetv2_jax.train.devices.sharding import HostBatch
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.step import prepare
from effnetv2_jax.train.report import pictures
from effnetv2_jax.train.report.description import RunDescription

IMAGES = 32
"""Number of images in a picture."""


def draw_batch(run: RunDescription, stage: Stage, batch: HostBatch, step: int, path: epath.Path) -> None:
    """Draws the first images of a host's batch, cropped, augmented and mixed, with their targets.

    They are mixed as in the stage, but only among themselves. In training, an image's partner may be any of the batch.
    """
    few = {name: array[:IMAGES] for name, array in batch.items()}
    prepared = jax.jit(lambda batch: prepare(run.recipe, stage, batch, jnp.asarray(step)))
    images, targets = (np.asarray(value) for value in prepared(few))
    family = run.recipe.family
    pixels = np.clip(np.rint(images * np.array(family.std) + np.array(family.mean)), 0, 255).astype(np.uint8)
    title = f"stage {stage.index + 1}: {stage.image_size} px, cropped, augmented and mixed"
    pictures.draw_grid(path, list(pixels), pictures.target_captions(targets, run.dataset_info.class_names), title)


def draw_stage(run: RunDescription, data: DataConfig, stage: Stage, folder: Path) -> Path:
    """Draws images of the first epoch as a stage prepares them, and returns the picture's path."""
    path = folder / f"stage_{stage.index + 1}.png"
    batches = train_batches(
        dataclasses.replace(data, parts=1),
        image_size=stage.image_size,
        magnitude=stage.magnitude,
        batch_size=min(IMAGES, run.batch_size),
        start_step=0,
        seed=int(run.recipe.seed),
    )
    draw_batch(run, stage, next(batches), stage.first_step, epath.Path(path))
    return path


def draw_operations(data: DataConfig, stages: Sequence[Stage], folder: Path) -> Path:
    """Draws each RandAugment operation, with one row for each stage, and returns the picture's path."""
    path = folder / "operations.png"
    images, captions = zip(*_operations(data, stages), strict=True)
    title = f"RandAugment, {data.operations} operations, a row for each stage"
    pictures.draw_grid(epath.Path(path), images, captions, title, columns=len(images) // len(stages))
    return path


def _operations(data: DataConfig, stages: Sequence[Stage]) -> Iterator[tuple[np.ndarray, str]]:
    """Yields an evaluation image after each operation, at each stage's size and magnitude, with its caption."""
    for stage in stages:
        image = next(eval_batches(data, image_size=stage.image_size, batch_size=1))["image"][0]
        scales = operation_scales(data, stage.image_size)
        gallery = operation_gallery(image, stage.magnitude, operations=data.operations, scales=scales)
        for name, result in gallery.items():
            yield np.asarray(result), f"{name} {stage.magnitude:.3g}"
