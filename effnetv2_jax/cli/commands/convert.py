"""`effnetv2 convert`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from effnetv2_jax.cli.config_file import UsageError
from effnetv2_jax.cli.numbers import above_zero, whole
from effnetv2_jax.convert.conversion import Conversion, convert
from effnetv2_jax.convert.names import SOURCES, TARGETS
from effnetv2_jax.data.families import FAMILIES
from effnetv2_jax.model.specs import ModelSpec, get_spec
from effnetv2_jax.predict.labels import read_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("source_path", metavar="SRC", help="a .tgz, .safetensors or .pth file, or a folder")
    parser.add_argument("target_path", metavar="DST", help="a .safetensors file; for timm also a folder")
    parser.add_argument("--variant", metavar="V", help="as `effnetv2 info` lists them; files of ours know their own")
    parser.add_argument("--from", dest="source", required=True, choices=SOURCES, help="whose file SRC is")
    parser.add_argument("--to", dest="target", required=True, choices=TARGETS, help="whose file DST is to be")
    parser.add_argument("--width", type=above_zero, default=1.0, metavar="X", help="the variant's widths, multiplied")
    parser.add_argument("--depth", type=above_zero, default=1.0, metavar="X", help="the variant's depths, multiplied")
    parser.add_argument("--raw", action="store_true", help="take the raw weights where there are averaged ones")
    head = parser.add_mutually_exclusive_group()
    head.add_argument("--new-head", type=whole(1), metavar="N", help="a fresh classifier of N classes")
    head.add_argument("--drop-head", action="store_const", dest="new_head", const=0, help="no classifier")
    parser.add_argument("--class-names", type=Path, metavar="FILE", help="the classes' names, one a line, to store")
    parser.add_argument("--preprocessing", choices=tuple(FAMILIES), help="of the images, to store; default: SRC's")
    parser.add_argument("--eval-size", type=whole(1), metavar="PX", help="of the images, to store; default: SRC's")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Converts, verifies, and says what differs."""
    conversion = convert(
        arguments.source_path,
        arguments.target_path,
        _variant(arguments),
        source=arguments.source,
        target=arguments.target,
        moving_average=not arguments.raw,
        new_head=arguments.new_head,
        class_names=read_names(arguments.class_names) if arguments.class_names else (),
        preprocessing=arguments.preprocessing,
        eval_size=arguments.eval_size,
    )
    print(_as_json(conversion) if arguments.json else _as_text(conversion, arguments.target_path))
    return 0


def _variant(arguments: argparse.Namespace) -> ModelSpec | None:
    if arguments.variant is None:
        if (arguments.width, arguments.depth) != (1.0, 1.0):
            raise UsageError("--width and --depth multiply a --variant: name one")
        return None
    return get_spec(arguments.variant).scaled(arguments.width, arguments.depth)


def _as_text(conversion: Conversion, target_path: str) -> str:
    facts = conversion.provenance
    lines = [
        f"{facts.spec.name}, {facts.num_classes} classes, {facts.averaging} weights, from {facts.source}",
        f"evaluation: {facts.eval_size} px, {facts.preprocessing} preprocessing",
        *(f"note: {note}" for note in conversion.notes),
        f"wrote {target_path}",
        str(conversion.verification),
    ]
    return "\n".join(lines)


def _as_json(conversion: Conversion) -> str:
    found = conversion.verification
    return json.dumps(
        {
            "difference": found.difference,
            "relative_difference": found.relative,
            "largest_logit": found.largest_logit,
            "against": found.against,
            "exact": found.exact,
            "deviation": found.deviation,
            "notes": conversion.notes,
            "provenance": conversion.provenance.to_metadata(),
        },
        indent=2,
        ensure_ascii=False,
    )
