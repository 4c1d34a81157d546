"""The options that say on which data weights are evaluated and how, for `evaluate`, `compare` and `bench`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from effnetv2_jax.cli.options.numbers import whole

EVALUATION_OPTIONS = ("data", "data_dir", "labels", "sizes", "crop", "flip", "variant", "class_names", "batch_size")
"""The options of `add_evaluation_arguments` that are empty unless they are given; `classes` is "all"."""

IMAGES_PER_DEVICE = 32
"""Images of a step on each device, unless a config or `--batch-size` says otherwise."""


def add_evaluation_arguments(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    """Declares the options of the data and of how its images are seen.

    Args:
      parser: the command's parser.
      several: whether several data sets, sizes and crops are allowed.
    """
    many: dict[str, Any] = {"nargs": "+"} if several else {"nargs": 1}
    parser.add_argument(
        "--data",
        **many,
        metavar="DATA",
        help="data to evaluate on, in place of --config: a benchmark (imagenet2012, imagenet2012_real, imagenet_v2, "
        "imagenet_a, imagenet_r, imagenet_sketch) or another data set of TFDS; a folder, CLASS/IMAGE; or "
        "BENCHMARK=FOLDER, if its images lie in a folder (default: the data of --config)",
    )
    parser.add_argument(
        "--data-dir",
        default="",
        metavar="D",
        help="folder of the data sets of TFDS, or of records (default: TFDS's own folder)",
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="[DATA=]FILE",
        help="labels of a folder's images, JSON or text, such as ReaL's real.json (default: the folder has a folder "
        "for each class)",
    )
    parser.add_argument(
        "--sizes",
        metavar="FIRST:LAST:STEP",
        help="image sizes, as in 224:480:32 or 224,288 (default: the evaluation size of the weights)",
    )
    parser.add_argument(
        "--crop",
        **many,
        choices=("centre", "whole"),
        help="the central square, or the whole image squashed to a square (default: as the weights record it)",
    )
    parser.add_argument(
        "--flip", action="store_true", help="take the mean logits of each image and its mirror image (default: no)"
    )
    parser.add_argument(
        "--classes",
        choices=("all", "data"),
        default="all",
        help="classes that the network chooses from: all of its own, or those of the data (default: all; the 200 "
        "classes of imagenet_a and imagenet_r for these)",
    )
    parser.add_argument(
        "--variant", metavar="V", help="variant of weights that do not record it (default: as the file records it)"
    )
    parser.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="file with the names of the weights' classes, one a line (default: those that the weights record)",
    )
    parser.add_argument(
        "--batch-size",
        type=whole(1),
        metavar="N",
        help=f"images in a step, on all devices (default: as in the config, or {IMAGES_PER_DEVICE} a device)",
    )
