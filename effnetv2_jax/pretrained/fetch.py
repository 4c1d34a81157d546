"""Gets published weights and files of the Hugging Face Hub onto this machine."""

from __future__ import annotations

from pathlib import Path

from effnetv2_jax.pretrained import hub
from effnetv2_jax.pretrained.checksum import check_checksum
from effnetv2_jax.pretrained.https_download import download
from effnetv2_jax.pretrained.hub_address import HubAddress, hub_address, in_hub
from effnetv2_jax.pretrained.published_weights import PublishedWeights
from effnetv2_jax.pretrained.weights_folder import file_place, hub_place, is_offline

_FOLDER_FILE, _FOLDER_CONFIG = "model.safetensors", "config.json"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".h5", ".tgz")


def fetch_published(row: PublishedWeights) -> Path:
    """Returns the local path of published weights: a file, or a folder with `model.safetensors`.

    Raises:
      OSError: if they are neither on this machine nor can be downloaded. The message names the file to put where.
    """
    if in_hub(row.address):
        return fetch_from_hub(hub_address(row.address), called=row.name)
    place = file_place(row.framework, row.file)
    if place.exists():
        return _checked(place, row.checksum)
    if is_offline():
        raise ConnectionError(_advice(row.name, "the network is switched off by HF_HUB_OFFLINE", row.address, place))
    try:
        download(row.address, place, checksum=row.checksum)
    except ConnectionError as error:
        raise ConnectionError(_advice(row.name, str(error), row.address, place)) from error
    return place


def _checked(place: Path, checksum: str) -> Path:
    """Returns the path of a file that is there already, after a look at its checksum."""
    if checksum:
        try:
            check_checksum(place, checksum)
        except ValueError as error:
            raise OSError(f"{place} is damaged or another file: {error}; remove it to download it again") from error
    return place


def fetch_from_hub(address: HubAddress, called: str = "") -> Path:
    """Returns the local path of a file of the hub, or of the folder of a repository that has `model.safetensors`.

    Args:
      address: the file or the repository.
      called: the name by which the user knows published weights, whose files do not change; "" for the address, whose
        newest version is wanted.

    Raises:
      OSError: as `fetch_published`.
    """
    file = address.file or _FOLDER_FILE
    place = hub_place(address, file)
    if place.exists():
        return place if address.file else place.parent
    try:
        found = hub.download_file(address, file, prefer_cache=bool(called))
        if not address.file:
            _download_config(address, prefer_cache=bool(called))
    except ConnectionError as error:
        raise ConnectionError(_advice(called, str(error), hub.file_url(address, file), place)) from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{_other_files(address)}") from error
    return found if address.file else found.parent


def _download_config(address: HubAddress, *, prefer_cache: bool) -> None:
    """Downloads the file that describes a network beside its weights, if there is one."""
    try:
        hub.download_file(address, _FOLDER_CONFIG, prefer_cache=prefer_cache)
    except (FileNotFoundError, ConnectionError):  # the weights alone are enough for a variant that is known
        return


def _other_files(address: HubAddress) -> str:
    """Returns the end of a message that names the weights that a repository does have."""
    try:
        names = [name for name in hub.list_files(address) if name.endswith(_WEIGHT_SUFFIXES)]
    except OSError:
        return ""
    if address.file or not names:
        return f"; its weights: {', '.join(names) or 'none'}"
    return f"; name one of its files, as in {HubAddress(address.repository, names[0], address.revision)}"


def _advice(name: str, reason: str, url: str, place: Path) -> str:
    """Returns a message for weights that cannot be downloaded now: the reason, and the file to put where."""
    whose = f"{name}: " if name else ""
    return f"{whose}{reason}; without a network, put the file {url} at {place}, or give the path of a file of weights"
