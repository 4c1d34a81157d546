"""The bucket that a run writes to."""

from __future__ import annotations

from etils import epath


def require_bucket(path: str) -> None:
    """Checks that the bucket of a `gs://` path exists; other paths pass.

    Without this check, TensorFlow would look for a missing bucket for ever when it makes a folder there.

    Raises:
      FileNotFoundError: if the bucket does not exist.
    """
    scheme, found, rest = path.partition("://")
    bucket = rest.partition("/")[0]
    if found and not epath.Path(f"{scheme}://{bucket}").exists():
        raise FileNotFoundError(f"the bucket {scheme}://{bucket} of {path} does not exist, or you may not see it")
