"""The table of published weights, by name and framework."""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
from pathlib import Path

from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.pretrained.hub_address import HubAddress, hub_address, in_hub
from effnetv2_jax.pretrained.keras import keras_weights
from effnetv2_jax.pretrained.official import official_weights
from effnetv2_jax.pretrained.published_weights import IMAGENET_1K, PublishedWeights
from effnetv2_jax.pretrained.timm import timm_weights
from effnetv2_jax.pretrained.torchvision import torchvision_weights

TABLE: tuple[PublishedWeights, ...] = (
    *timm_weights(),
    *official_weights(),
    *torchvision_weights(),
    *keras_weights(),
)
"""All rows. Of the rows of one name, the first one is meant if no framework is given."""

# What a text that is meant as a name looks like. Files of weights end in one of the suffixes.
_NAME = re.compile(r"(?:tf_|gc_)?efficientnet[\w.-]*", re.ASCII)
_FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tgz", ".tar", ".gz", ".h5", ".hdf5", ".index", ".json")


def list_pretrained(pattern: str = "*", *, framework: str | None = None) -> tuple[str, ...]:
    """Returns the names of published weights, as `load_pretrained` takes them.

    Args:
      pattern: which names, with `*` and `?` as in a shell: `efficientnetv2-s.*`.
      framework: only the weights of this framework: `timm`, `official`, `torchvision` or `keras`; None for all.
    """
    rows = (row.name for row in TABLE if framework in (None, row.framework))
    return tuple(name for name in dict.fromkeys(rows) if fnmatch.fnmatchcase(name, pattern))


def is_pretrained_name(path: str | os.PathLike[str]) -> bool:
    """Returns whether a text is meant as a name of published weights: it looks like one, and no file is called so."""
    text = str(path)
    return bool(_NAME.fullmatch(text)) and not text.endswith(_FILE_SUFFIXES) and not _exists(text)


def _exists(text: str) -> bool:
    """Returns whether a file or folder, or a TensorFlow checkpoint with this prefix, exists."""
    return Path(text).exists() or Path(f"{text}.index").exists()


def find_pretrained(name: str, framework: str | None = None) -> PublishedWeights:
    """Returns the row of a name. A variant alone, such as `efficientnetv2-s`, means its best weights.

    Args:
      name: the name.
      framework: the framework of the weights; None for the first one in the table.

    Raises:
      ValueError: for an unknown name, or a name that the framework does not have; the message says what there is.
    """
    if name in VARIANTS and (best := best_pretrained(name, framework)):
        name = best
    found = [row for row in TABLE if row.name == name]
    fitting = [row for row in found if framework in (None, row.framework)]
    if fitting:
        return fitting[0]
    if found:
        frameworks = ", ".join(row.framework for row in found)
        raise ValueError(f"{framework} does not publish {name}; frameworks that do: {frameworks}")
    raise ValueError(f"there are no published weights called {name!r}; {_hint(name)}")


def best_pretrained(variant: str, framework: str | None = None) -> str | None:
    """Returns the name of a variant's weights with the best published accuracy on ImageNet-1k, or None without any.

    Without a framework, only the weights that a name alone means are compared.
    """
    rows = [row for row in TABLE if row.variant == variant and framework in (None, row.framework)]
    rows = [row for row in rows if framework is not None or find_pretrained(row.name) is row]
    ranked = [(row.top1, row.name) for row in rows if row.top1 is not None and row.num_classes == IMAGENET_1K]
    return max(ranked)[1] if ranked else None


def row_at(address: HubAddress) -> PublishedWeights | None:
    """Returns the row of the weights at an address on the hub, whatever its revision, or None if there is none."""
    return next((row for row in TABLE if in_hub(row.address) and _is_at(hub_address(row.address), address)), None)


def _is_at(row: HubAddress, address: HubAddress) -> bool:
    return row.repository == address.repository and address.file in ("", "model.safetensors")


def _hint(name: str) -> str:
    """Returns what to do about an unknown name."""
    if "_rw_" in name:
        return "timm's efficientnetv2_rw_* are networks of another architecture, which this project does not have"
    own = re.sub(r"^(?:tf_)?(efficientnet(?:v2)?)_", r"\1-", name)
    variant = own.partition(".")[0]
    known = list_pretrained()
    if own in known:
        return f"here they are called {own}"
    if of_variant := [other for other in known if other.startswith(f"{variant}.")]:
        return f"those of {variant}: {', '.join(other.partition('.')[2] for other in of_variant)}"
    near = difflib.get_close_matches(own, known, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "`effnetv2 info --pretrained` lists all names"
