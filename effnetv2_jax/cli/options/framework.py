"""`--framework`: the framework that the weights in a file are made for."""

from __future__ import annotations

import argparse

from effnetv2_jax.convert.frameworks.table import framework_names


def add_framework_argument(parser: argparse.ArgumentParser) -> None:
    """Declares `--framework`. Its value is None if it is not given."""
    parser.add_argument(
        "--framework",
        choices=framework_names(),
        help="framework of the weights (default: found from the file; for a name, the first one that publishes it)",
    )
