"""`effnetv2 convert`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from effnetv2_jax.cli.options.config_file import UsageError
from effnetv2_jax.cli.options.framework import add_framework_argument
from effnetv2_jax.cli.options.numbers import above_zero, whole
from effnetv2_jax.convert.conversion import Conversion, convert
from effnetv2_jax.convert.frameworks.table import target_names
from effnetv2_jax.data.images.families import FAMILIES
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.predict.labels import read_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "input_path",
        metavar="SRC",
        help="weights: a .tgz, .safetensors, .pth or .h5 file, or a folder, local, gs://… or hf://…; or the name of "
        "published weights, as `effnetv2 info --pretrained` lists them",
    )
    parser.add_argument(
        "output_path",
        metavar="DST",
        help="a .safetensors file; for timm also a folder, or hf://OWNER/REPOSITORY, which gets a model card too",
    )
    parser.add_argument(
        "--variant", metavar="V", help="variant, as `effnetv2 info` lists them (default: as SRC records it)"
    )
    add_framework_argument(parser)
    parser.add_argument("--to", dest="target", required=True, choices=target_names(), help="framework to convert to")
    parser.add_argument(
        "--width", type=above_zero, default=1.0, metavar="X", help="multiply the variant's widths by X (default: 1)"
    )
    parser.add_argument(
        "--depth", type=above_zero, default=1.0, metavar="X", help="multiply the variant's depths by X (default: 1)"
    )
    parser.add_argument(
        "--raw", action="store_true", help="read the raw weights (default: the averaged ones if there are any)"
    )
    head = parser.add_mutually_exclusive_group()
    head.add_argument(
        "--new-head",
        type=whole(1),
        metavar="N",
        help="replace the classifier with a fresh one of N classes (default: keep it)",
    )
    head.add_argument(
        "--drop-head",
        action="store_const",
        dest="new_head",
        const=0,
        help="leave the classifier out (default: keep it)",
    )
    parser.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="names of the classes to record in DST, one a line (default: those of SRC)",
    )
    parser.add_argument(
        "--preprocessing", choices=tuple(FAMILIES), help="preprocessing family to record in DST (default: that of SRC)"
    )
    parser.add_argument(
        "--eval-size", type=whole(1), metavar="PX", help="evaluation size to record in DST (default: that of SRC)"
    )
    parser.add_argument(
        "--private",
        action="store_true",
        help="make a new repository of hf://… private (default: as its owner's settings)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON (default: as text)")


def run(arguments: argparse.Namespace) -> int:
    """Converts the weights, verifies them and prints the result."""
    conversion = convert(
        arguments.input_path,
        arguments.output_path,
        _variant(arguments),
        framework=arguments.framework,
        target=arguments.target,
        moving_average=not arguments.raw,
        new_head=arguments.new_head,
        class_names=read_names(arguments.class_names) if arguments.class_names else (),
        preprocessing=arguments.preprocessing,
        eval_size=arguments.eval_size,
        private=arguments.private,
    )
    print(_as_json(conversion) if arguments.json else _as_text(conversion, arguments.output_path))
    return 0


def _variant(arguments: argparse.Namespace) -> ModelSpec | None:
    if arguments.variant is None:
        if (arguments.width, arguments.depth) != (1.0, 1.0):
            raise UsageError("--width and --depth multiply the sizes of a --variant, which is not given")
        return None
    return get_spec(arguments.variant).scaled(arguments.width, arguments.depth)


def _as_text(conversion: Conversion, output_path: str) -> str:
    provenance = conversion.provenance
    lines = [
        f"{provenance.spec.name}, {provenance.num_classes} classes, {provenance.averaging} weights, "
        f"from {provenance.read_from}",
        f"evaluation: {provenance.eval_size} px, {provenance.preprocessing} preprocessing",
        *(f"note: {note}" for note in conversion.notes),
        f"wrote {output_path}",
        str(conversion.verification),
    ]
    return "\n".join(lines)


def _as_json(conversion: Conversion) -> str:
    verification = conversion.verification
    return json.dumps(
        {
            "difference": verification.difference,
            "relative_difference": verification.relative,
            "largest_logit": verification.largest_logit,
            "against": verification.against,
            "computed_by": verification.computed_by,
            "exact": verification.exact,
            "deviation": verification.deviation,
            "notes": conversion.notes,
            "provenance": conversion.provenance.to_metadata(),
        },
        indent=2,
        ensure_ascii=False,
    )
