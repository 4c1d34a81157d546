"""Files that grow on a disk that fails for a while."""

import contextlib
import resource

import pytest
from etils import epath
from fake_bucket import use_as_bucket

from effnetv2_jax.train.report import growing_file
from effnetv2_jax.train.report.growing_file import GrowingFile


@contextlib.contextmanager
def full_after(size):
    """A context in which no file can grow beyond a size in bytes: a longer write stops there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def said():
    """The warnings."""
    return []


@pytest.fixture
def file(tmp_path, said):
    return GrowingFile(epath.Path(tmp_path / "folder/file"), said.append)


def content(tmp_path):
    return (tmp_path / "folder/file").read_bytes()


def test_what_a_full_disk_has_cut_is_completed_and_each_outage_is_told_once(file, said, tmp_path):
    file.add(b"first\n")
    file.write()
    for data in (b"second\n", b"third\n"):
        file.add(data)
        with full_after(9), pytest.raises(OSError, match="File too large"):
            file.write()
        assert content(tmp_path) == b"first\nsec"
    assert file.unwritten == b"second\nthird\n"
    file.add(b"fourth\n")
    file.write()
    assert content(tmp_path) == b"first\nsecond\nthird\nfourth\n"
    assert file.unwritten == b""
    path = tmp_path / "folder/file"
    assert said == [
        f"{path} could not be written: File too large; the run goes on, and tries again",
        f"{path} is written again",
    ]


def test_less_to_write_than_a_failed_write_has_left_does_not_leave_its_rest(file, tmp_path):
    """Another writer cannot have left it, but a file system may have kept more of a failed write than it said."""
    file.add(b"first\n")
    file.write()
    with (tmp_path / "folder/file").open("ab") as other:
        other.write(b"a rest that is longer")
    file.add(b"second\n")
    file.write()
    assert content(tmp_path) == b"first\nsecond\n"


@pytest.mark.parametrize("left", [None, b"fir"])
def test_a_file_that_was_lost_or_shortened_is_written_anew(file, tmp_path, left):
    file.add(b"first\n")
    file.write()
    folder = tmp_path / "folder"
    folder.rename(tmp_path / "away")
    folder.mkdir()
    if left is not None:
        (folder / "file").write_bytes(left)
    file.add(b"second\n")
    file.write()
    assert content(tmp_path) == b"first\nsecond\n"


def test_a_disk_that_is_away_is_waited_for(file, said, tmp_path):
    file.add(b"first\n")
    file.write()
    tmp_path.rename(tmp_path.with_name("away"))
    file.add(b"second\n")
    with pytest.raises(OSError, match="No such file or directory"):
        file.write()
    tmp_path.with_name("away").rename(tmp_path)
    file.write()
    assert content(tmp_path) == b"first\nsecond\n"
    assert len(said) == 2


def test_an_object_is_uploaded_whole_and_not_often(tmp_path, said, monkeypatch):
    bucket, now = use_as_bucket(tmp_path / "bucket", monkeypatch), [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    file = GrowingFile(epath.Path("gs://bucket/folder/file"), said.append)
    for data in (b"old\n", b"new\n"):
        file.add(data)
        assert file.is_due() is (data == b"old\n")
        file.write()
    assert (bucket / "folder/file").read_bytes() == b"old\nnew\n"
    now[0] = 29.0
    assert not file.is_due()
    now[0] = 31.0
    assert file.is_due()


def test_nothing_is_written_where_a_disk_was_unmounted(file, said, tmp_path, monkeypatch):
    """The folder is gone then, and the one above it is on another disk."""
    file.add(b"first\n")
    file.write()
    (tmp_path / "folder").rename(tmp_path / "unmounted")
    disk = growing_file._disk(epath.Path(tmp_path / "file"))
    monkeypatch.setattr(growing_file, "_disk", lambda _: disk + 1)
    file.add(b"second\n")
    with pytest.raises(OSError, match="folder is on another disk than at the start"):
        file.write()
    assert not (tmp_path / "folder").exists()
    assert len(said) == 1
