"""Paths that may be local or in a bucket, such as `gs://bucket/run`."""

from __future__ import annotations

from etils import epath


def in_bucket(path: epath.PathLike) -> bool:
    """Returns whether a path lies in a bucket. A bucket takes whole objects only, and has neither links nor locks."""
    return "://" in str(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """Returns the absolute form of a path, without `~` and links; a path in a bucket is absolute already."""
    return epath.Path(path) if in_bucket(path) else epath.Path(path).expanduser().resolve()
