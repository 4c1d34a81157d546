"""Downloads from the Hugging Face Hub and uploads to it, by huggingface_hub.

Its cache, token and environment variables hold: `HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE` and others.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from effnetv2_jax.pretrained.checksum import check_checksum
from effnetv2_jax.pretrained.https_download import TRIES
from effnetv2_jax.pretrained.hub_address import HubAddress
from effnetv2_jax.pretrained.weights_folder import is_offline

_UNREACHED = ""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _endpoint() -> str | None:
    """Returns the address of the hub if it is not the public one."""
    return os.environ.get("HF_ENDPOINT") or None


def file_url(address: HubAddress, file: str) -> str:
    """Returns the address at which a browser downloads a file."""
    origin = (_endpoint() or "https://huggingface.co").rstrip("/")
    return f"{origin}/{address.repository}/resolve/{address.revision or 'main'}/{file}"


def download_file(address: HubAddress, file: str, *, prefer_cache: bool = False) -> Path:
    """Returns the local path of a file of a repository, after a download unless the cache has the newest version.

    Large files have their SHA-256 on the hub; it is compared.

    Args:
      address: the repository and its revision.
      file: path of the file in it.
      prefer_cache: whether any version in the cache will do, so that the hub is not asked for a newer one.

    Raises:
      OSError: if there is no such file, it is not public, the hub cannot be reached and the cache lacks it, or its
        SHA-256 is wrong.
    """
    import huggingface_hub

    with _one_line(address, file):
        download = functools.partial(
            huggingface_hub.hf_hub_download,
            address.repository,
            file,
            revision=address.revision or None,
            endpoint=_endpoint(),
        )
        found = _cached(download) if prefer_cache else None
        found = found or _with_patience(functools.partial(download, local_files_only=is_offline()))
        stored = Path(found).resolve()
        if _SHA256.fullmatch(stored.name):  # the cache calls such a file by its digest
            try:
                check_checksum(stored, f"sha256:{stored.name}")
            except ValueError as error:
                stored.unlink()
                raise OSError(f"{address}: {file} is damaged: {error}; it was removed from the cache") from error
    return Path(found)


def _with_patience(download: Callable[[], str]) -> str:
    """Returns what `download` returns. If its connection breaks, it is called again, and goes on where it ended."""
    from huggingface_hub.errors import HfHubHTTPError

    for _ in range(TRIES - 1):
        try:
            return download()
        except HfHubHTTPError:
            raise
        except Exception as error:
            if not _is_http_error(error):
                raise
    return download()


def _cached(download: Callable[..., str]) -> str | None:
    """Returns the path of a file in the cache, or None if it is not there."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return download(local_files_only=True)
    except LocalEntryNotFoundError:
        return None


def list_files(address: HubAddress) -> list[str]:
    """Returns the paths of the files in a repository.

    Raises:
      OSError: as `download_file`.
    """
    import huggingface_hub

    with _one_line(address, ""):
        api = huggingface_hub.HfApi(endpoint=_endpoint())
        return list(api.list_repo_files(address.repository, revision=address.revision or None))


def has_file(address: HubAddress, file: str) -> bool:
    """Returns whether a repository exists and has a file.

    Raises:
      OSError: if the hub cannot be reached or refuses.
    """
    import huggingface_hub

    _require_network(address)
    with _one_line(address, file):
        api = huggingface_hub.HfApi(endpoint=_endpoint())
        return bool(api.file_exists(address.repository, file, revision=address.revision or None))


def upload_folder(address: HubAddress, folder: Path, message: str, *, private: bool) -> None:
    """Uploads the files in a folder to a repository in one commit, and makes the repository unless it exists.

    Raises:
      OSError: if nobody is logged in, the hub cannot be reached, or it refuses.
    """
    import huggingface_hub

    _require_network(address)
    with _one_line(address, ""):
        api = huggingface_hub.HfApi(endpoint=_endpoint())
        api.create_repo(address.repository, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=address.repository,
            folder_path=folder,
            revision=address.revision or None,
            commit_message=message,
        )


def _require_network(address: HubAddress) -> None:
    """Raises ConnectionError if the user has forbidden the network."""
    if is_offline():
        raise ConnectionError(f"{address} cannot be written: the network is switched off by HF_HUB_OFFLINE")


@contextlib.contextmanager
def _one_line(address: HubAddress, file: str) -> Iterator[None]:
    """A context in which the errors of huggingface_hub become an OSError of one line that says what to do."""
    from huggingface_hub import errors

    at_revision = f" at the revision {address.revision!r}" if address.revision else ""
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    texts: tuple[tuple[type[Exception], type[OSError], str], ...] = (
        (errors.GatedRepoError, PermissionError, f"its owner has to grant you access; then {log_in}"),
        (errors.RevisionNotFoundError, FileNotFoundError, f"there is no revision {address.revision or 'main'!r}"),
        (
            errors.RepositoryNotFoundError,
            FileNotFoundError,
            f"there is no such repository, or it is private; for a private one, {log_in}",
        ),
        (errors.LocalEntryNotFoundError, ConnectionError, _UNREACHED),
        (errors.OfflineModeIsEnabled, ConnectionError, _UNREACHED),
        (errors.EntryNotFoundError, FileNotFoundError, f"the repository has no file {file}{at_revision}"),
    )
    try:
        yield
    except Exception as error:
        for kind, raised, text in texts:
            if isinstance(error, kind):
                message = _unreached(file, error) if text is _UNREACHED else text
                raise raised(f"{address}: {message}") from error
        if isinstance(error, errors.HfHubHTTPError):
            raise _refused(address, error, log_in) from error
        if isinstance(error, OSError) and str(address) in str(error):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise  # such as a disk that is full
        if isinstance(error, (OSError, ValueError)) or _is_http_error(error):
            raise ConnectionError(f"{address}: {_first_line(error)}") from error
        raise


def _unreached(file: str, error: Exception) -> str:
    if is_offline():
        return f"the network is switched off by HF_HUB_OFFLINE, and the cache has no {file}"
    reason = f" ({_first_line(error.__cause__)})" if isinstance(error.__cause__, Exception) else ""
    return f"the hub cannot be reached{reason}, and the cache has no {file}"


def _refused(address: HubAddress, error: Any, log_in: str) -> OSError:
    status = error.response.status_code
    if status in (401, 403):
        return PermissionError(f"{address}: the hub refuses ({status}); {log_in}, with a token that may do this")
    return OSError(f"{address}: the hub answers {status}: {_first_line(error)}")


def _is_http_error(error: Exception) -> bool:
    """Whether an error comes from the client that huggingface_hub uses, which is another one in each major version."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2", "requests")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
