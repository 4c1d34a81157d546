"""Files appear complete or not at all, and every failure is an OSError of one line."""

import pytest
import tensorflow as tf
from etils import epath
from fake_bucket import use_as_bucket

from effnetv2_jax.whole_file import write_whole


def test_a_file_replaces_the_old_one(tmp_path):
    for content in (b"one", b"2"):
        write_whole(epath.Path(tmp_path / "file"), content)
        assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def failing(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(OSError, match=r"^\S*/file could not be written: No space left on device$"):
        write_whole(epath.Path(tmp_path / "file"), b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_error_of_a_bucket_becomes_one_line(tmp_path, monkeypatch):
    def failing(*_):
        raise tf.errors.UnavailableError(None, None, "503\nand more")

    bucket = use_as_bucket(tmp_path / "bucket", monkeypatch)
    write_whole(epath.Path("gs://bucket/file"), b"new")
    assert (bucket / "file").read_bytes() == b"new"
    monkeypatch.setattr(tf.io.gfile.GFile, "write", failing)
    with pytest.raises(OSError, match=r"^gs://bucket/file could not be written: 503$"):
        write_whole(epath.Path("gs://bucket/file"), b"newer")
