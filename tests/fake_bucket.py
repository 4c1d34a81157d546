"""A bucket for tests: TensorFlow's file functions, with a folder in place of `gs://bucket`."""

from pathlib import Path

import tensorflow as tf


class FakeBucket:
    """`tf.io.gfile` as epath calls it for `gs://` paths."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getattr__(self, name):
        function = getattr(tf.io.gfile, name)
        return lambda *paths, **options: function(*(self._local(path) for path in paths), **options)

    def _local(self, path):
        return str(path).replace("gs://bucket", str(self._folder))


def use_as_bucket(folder: Path, monkeypatch) -> Path:
    """Makes a folder the contents of `gs://bucket` and returns it."""
    folder.mkdir()
    monkeypatch.setattr("etils.epath.backend._TfBackend.gfile", FakeBucket(folder))
    return folder
