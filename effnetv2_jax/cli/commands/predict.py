"""`effnetv2 predict`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from effnetv2_jax.cli.framework_option import add_framework_argument
from effnetv2_jax.cli.numbers import whole
from effnetv2_jax.convert.provenance_overrides import with_overrides
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.data.families import FAMILIES
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.predict.classifier import Prediction, classify
from effnetv2_jax.predict.labels import class_names, read_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="an image file that Pillow can read")
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="P",
        help="weights: a run folder, or a file or folder of any framework, local or gs://…",
    )
    parser.add_argument("--variant", metavar="V", help="variant of the weights (default: as the file records it)")
    add_framework_argument(parser)
    parser.add_argument("--raw", action="store_true", help="use raw weights even if there are averaged ones")
    parser.add_argument("--top", type=whole(1), default=5, metavar="K", help="number of classes to show (default: 5)")
    parser.add_argument("--class-names", type=Path, metavar="FILE", help="file with the class names, one a line")
    parser.add_argument(
        "--preprocessing", choices=tuple(FAMILIES), help="preprocessing family (default: that of the weights)"
    )
    parser.add_argument(
        "--eval-size", type=whole(1), metavar="PX", help="image size (default: the evaluation size of the weights)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--picture", type=Path, metavar="OUT.PNG", help="draw the images and their predictions")


def run(arguments: argparse.Namespace) -> int:
    """Classifies images and prints a table, or JSON."""
    weights = load_weights(
        arguments.checkpoint,
        arguments.variant,
        framework=arguments.framework,
        moving_average=not arguments.raw,
    )
    provenance = with_overrides(
        weights.provenance,
        class_names=read_names(arguments.class_names) if arguments.class_names else (),
        preprocessing=arguments.preprocessing,
        eval_size=arguments.eval_size,
    )
    weights = dataclasses.replace(weights, provenance=provenance)
    predictions = list(classify(weights, arguments.images, top=arguments.top))
    for note in (*weights.notes, *_missing_names(provenance)):
        print(f"note: {note}", file=sys.stderr)
    if arguments.json:
        print(json.dumps([_as_dict(prediction) for prediction in predictions], indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(_as_table(prediction) for prediction in predictions))
    if arguments.picture:
        from effnetv2_jax.predict.picture import draw

        draw(predictions, arguments.picture)
    return 0


def _missing_names(provenance: Provenance) -> Sequence[str]:
    """Returns a note on how to get the names of the classes if they are not known."""
    if class_names(provenance):
        return ()
    if provenance.label_set == "imagenet-1k":
        return ("for the names of ImageNet's classes, run: pip install 'effnetv2_jax[names]'",)
    return ("the weights do not record the names of the classes; give them with --class-names FILE",)


def _as_dict(prediction: Prediction) -> dict[str, object]:
    return {"image": str(prediction.path), "top": [dataclasses.asdict(guess) for guess in prediction.guesses]}


def _as_table(prediction: Prediction) -> str:
    rows = [f"{100 * guess.probability:6.2f} %  {guess.index:5d}  {guess.name}" for guess in prediction.guesses]
    return "\n".join([str(prediction.path), *rows])
