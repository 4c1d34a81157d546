"""Finds weights by what a user calls them: a path, the name of published weights, or an address on a hub."""

from __future__ import annotations

import dataclasses
from pathlib import PurePosixPath

from effnetv2_jax.convert.weight_file import PathLike
from effnetv2_jax.pretrained.fetch import fetch_from_hub, fetch_published
from effnetv2_jax.pretrained.hub_address import HUB, hub_address, in_hub
from effnetv2_jax.pretrained.published_weights import PublishedWeights
from effnetv2_jax.pretrained.table import find_pretrained, is_pretrained_name, row_at


@dataclasses.dataclass(frozen=True)
class LocatedWeights:
    """Weights that can be read.

    Attributes:
      path: where they lie: a local path, or one in a bucket.
      name: what their provenance calls them: the name of the file, or the repository of the hub.
      row: their row in the table of published weights; None if they are not in it.
    """

    path: PathLike
    name: str
    row: PublishedWeights | None


def locate(path: PathLike, framework: str | None) -> LocatedWeights:
    """Finds weights, and downloads them if they are published ones that are not on this machine yet.

    Args:
      path: a local path, `gs://…`, `hf://OWNER/REPOSITORY[/FILE][@REVISION]`, or a name such as
        `efficientnetv2-s.in1k`. A file or folder of that name is preferred.
      framework: the framework of published weights; None for the first one that has the name.

    Raises:
      ValueError: for an unknown name, or a text that is no address of the hub.
      OSError: if a download is needed and fails.
    """
    if in_hub(path):
        address = hub_address(path)
        row = row_at(address)
        if row is not None and framework not in (None, row.framework):
            row = None
        return LocatedWeights(fetch_from_hub(address), str(address).removeprefix(HUB), row)
    if is_pretrained_name(path):
        found = find_pretrained(str(path), framework)
        return LocatedWeights(fetch_published(found), found.file, found)
    return LocatedWeights(path, PurePosixPath(path).name, None)
