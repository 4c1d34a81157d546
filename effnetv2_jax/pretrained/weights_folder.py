"""Where published weights lie on this machine, and whether the network may be used."""

from __future__ import annotations

import os
from pathlib import Path

from effnetv2_jax.pretrained.hub_address import HubAddress

CACHE_VARIABLE = "EFFNETV2_JAX_CACHE"
"""The environment variable that names another folder than `~/.cache/effnetv2_jax`."""

OFFLINE_VARIABLE = "HF_HUB_OFFLINE"
"""The environment variable of huggingface_hub that forbids the network. Here it holds for every download."""


def weights_folder() -> Path:
    """Returns the folder of downloaded weights. Files that a user puts there are found as well."""
    cache = os.environ.get(CACHE_VARIABLE) or "~/.cache/effnetv2_jax"
    return Path(cache).expanduser() / "weights"


def file_place(framework: str, file: str) -> Path:
    """Returns where a framework's file lies, such as `…/weights/official/efficientnetv2-s.tgz`."""
    return weights_folder() / framework / file


def hub_place(address: HubAddress, file: str) -> Path:
    """Returns where a user may put a file of the hub. Its own downloads lie in the cache of huggingface_hub.

    A file of a certain revision has no such place but below a folder with the revision's name.
    """
    folder = f"{address.repository}@{address.revision}" if address.revision else address.repository
    return weights_folder() / "huggingface" / folder / file


def is_offline() -> bool:
    """Returns whether the user has forbidden the network."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().upper() in ("1", "ON", "YES", "TRUE")
