"""The options that say which weights a command reads and what is known of them, for `predict` and `export`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from effnetv2_jax.cli.options.framework import add_framework_argument
from effnetv2_jax.cli.options.numbers import whole
from effnetv2_jax.convert.provenance_overrides import override_provenance
from effnetv2_jax.convert.weights import Weights, load_weights
from effnetv2_jax.data.images.families import FAMILIES
from effnetv2_jax.predict.labels import read_names

CHECKPOINT_HELP = (
    "weights: a run folder, a file or folder of any framework, local, gs://… or hf://…, or the name of published "
    "weights, as `effnetv2 info --pretrained` lists them"
)


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `read_weights`, besides `checkpoint`."""
    parser.add_argument("--variant", metavar="V", help="variant of the weights (default: as the file records it)")
    add_framework_argument(parser)
    parser.add_argument(
        "--raw", action="store_true", help="use the raw weights (default: the averaged ones if there are any)"
    )
    parser.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="file with the class names, one a line (default: those that the weights record)",
    )
    parser.add_argument(
        "--preprocessing", choices=tuple(FAMILIES), help="preprocessing family (default: that of the weights)"
    )
    parser.add_argument(
        "--eval-size", type=whole(1), metavar="PX", help="image size (default: the evaluation size of the weights)"
    )


def read_weights(arguments: argparse.Namespace) -> Weights:
    """Reads the weights of `arguments.checkpoint`, with what the options say of them in their provenance.

    Raises:
      ValueError: if the weights are not what the options say, or an option does not fit them.
      FileNotFoundError: if a file does not exist.
    """
    weights = load_weights(
        arguments.checkpoint,
        arguments.variant,
        framework=arguments.framework,
        moving_average=not arguments.raw,
    )
    provenance = override_provenance(
        weights.provenance,
        class_names=read_names(arguments.class_names) if arguments.class_names else (),
        preprocessing=arguments.preprocessing,
        eval_size=arguments.eval_size,
    )
    return dataclasses.replace(weights, provenance=provenance)
