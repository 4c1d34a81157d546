"""`effnetv2 config`."""

from __future__ import annotations

import argparse
import dataclasses
import json

from effnetv2_jax.cli.options.config_file import config_help, load_config
from effnetv2_jax.cli.options.config_listing import listed_fields
from effnetv2_jax.config_fields import config_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("config", metavar="CONFIG[:ARGUMENT]", help=config_help())
    parser.set_defaults(takes_overrides=True)
    parser.add_argument("--json", action="store_true", help="print JSON, one object for each field (default: a table)")


def run(arguments: argparse.Namespace) -> int:
    """Prints every field of a config with its value, type and meaning."""
    config = load_config(arguments)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(field) for field in config_fields(config)], indent=1, ensure_ascii=False))
    else:
        print(listed_fields(config))
    return 0
