"""Archives that are intact, damaged or hostile."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effnetv2_jax.convert.formats import archive
from effnetv2_jax.convert.formats.archive import copy_checkpoint

INDEX = b"index of the checkpoint"
DATA = np.random.default_rng(0).bytes(5000)
GOOD = {"efficientnetv2-s/model.index": INDEX, "efficientnetv2-s/model.data-00000-of-00001": DATA}


def member(name: str, **fields) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def make(path: Path, files=GOOD, extra=(), mode: str = "w:gz") -> Path:
    """Writes an archive of files, then of members without content."""
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            tar.addfile(member(name, size=len(data)), io.BytesIO(data))
        for info in extra:
            tar.addfile(info)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize(("name", "mode"), [("a.tgz", "w:gz"), ("a.tar.gz", "w:gz"), ("a.tar", "w")])
def test_the_checkpoint_is_copied_under_fixed_names(tmp_path, folder, name, mode):
    files = GOOD | {"efficientnetv2-s/checkpoint": b"x", "efficientnetv2-s/._model.index": b"macOS"}
    directory = member("efficientnetv2-s", type=tarfile.DIRTYPE)
    prefix = copy_checkpoint(make(tmp_path / name, files, [directory], mode), folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "checkpoint.index": INDEX,
        "checkpoint.data-00000-of-00001": DATA,
    }
    assert prefix == folder / "checkpoint"


@pytest.mark.parametrize(
    "info",
    [
        member("/etc/model.index"),
        member("../model.index"),
        member("a/../../model.index"),
        member("a\\..\\model.index"),
        member("b.index", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("b.index", type=tarfile.LNKTYPE, linkname="efficientnetv2-s/model.index"),
        member("b", type=tarfile.CHRTYPE),
        member("b", type=tarfile.FIFOTYPE),
        member("b", type=tarfile.GNUTYPE_SPARSE),
    ],
    ids=["absolute", "parent", "hidden parent", "backslash", "symlink", "hard link", "device", "fifo", "sparse"],
)
def test_hostile_members_are_refused_by_name(tmp_path, folder, info):
    path = make(tmp_path / "a.tgz", {}, [info])
    with pytest.raises(ValueError, match=r"a\.tgz is (refused: the member|damaged)"):
        copy_checkpoint(path, folder)
    assert list(folder.iterdir()) == []


def test_a_compression_bomb_is_refused_early(tmp_path, folder):
    path = tmp_path / "a.tgz"
    with gzip.open(path, "wb", compresslevel=9) as stream:
        stream.write(member("model.index", size=256 << 20).tobuf())
        for _ in range(64):
            stream.write(bytes(4 << 20))
    with pytest.raises(ValueError, match=r"a\.tgz is refused"):
        copy_checkpoint(path, folder)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 64 << 20


def block(name: str, size: int, **fields) -> bytes:
    """Returns a member's header of 512 bytes."""
    return member(name, size=size, **fields).tobuf(tarfile.GNU_FORMAT)


SPARSE = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n30 GNU.sparse.realsize=10000\n"


@pytest.mark.parametrize(
    "header",
    [
        block("x", 30 << 20, type=tarfile.GNUTYPE_LONGNAME) + b"a" * (30 << 20),
        block("x", 30 << 20, type=tarfile.XHDTYPE) + b"9" * (30 << 20),
        block("x", len(SPARSE), type=tarfile.XHDTYPE)
        + SPARSE.ljust(512, b"\0")
        + block("x", 30 << 20)
        + b"15000000\n"
        + b"1\n" * (15 << 20),
    ],
    ids=["long name", "attributes", "map of a sparse file"],
)
@pytest.mark.parametrize("position", ["first", "second"])
def test_a_header_without_end_is_refused_before_it_is_kept(tmp_path, folder, header, position):
    """tarfile keeps all of it in memory; that of the attributes took it minutes of regular expressions."""
    noise = np.random.default_rng(0).bytes(1 << 20)  # weights do not compress, so the archive may unpack to much
    before = b"" if position == "first" else block("noise", len(noise)) + noise
    (tmp_path / "a.tgz").write_bytes(gzip.compress(before + header, compresslevel=1))
    with pytest.raises(ValueError, match=r"a\.tgz is refused: the header of a member has more than 32,768 bytes"):
        copy_checkpoint(tmp_path / "a.tgz", folder)


@pytest.mark.parametrize("size", [-512, 10**15])
def test_a_size_that_cannot_be_is_refused(tmp_path, folder, size):
    (tmp_path / "a.tar").write_bytes(block("model.index", size))
    with pytest.raises(ValueError, match=r"a\.tar is refused: the member 'model.index' claims"):
        copy_checkpoint(tmp_path / "a.tar", folder)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path, folder):
    os.mkfifo(tmp_path / "a.tgz")
    with pytest.raises(ValueError, match=r"a\.tgz is no regular file"):
        copy_checkpoint(tmp_path / "a.tgz", folder)


def test_zeros_after_the_members_are_limited_too(tmp_path, folder):
    path = make(tmp_path / "a.tgz")
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(64 << 20)))
    with pytest.raises(ValueError, match="refused: it unpacks to more than"):
        copy_checkpoint(path, folder)


def test_too_many_members_are_refused(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(archive, "_MAX_MEMBERS", 5)
    path = make(tmp_path / "a.tgz", {f"file{i}": b"" for i in range(6)})
    with pytest.raises(ValueError, match="more than 5 members"):
        copy_checkpoint(path, folder)


@pytest.mark.parametrize(
    "files",
    [
        {"a/model.index": INDEX, "b/model.index": INDEX, "a/model.data-00000-of-00001": DATA},
        {"model.index": INDEX, "other.data-00000-of-00001": DATA},
    ],
)
def test_two_checkpoints_are_refused(tmp_path, folder, files):
    with pytest.raises(ValueError, match="more than one checkpoint"):
        copy_checkpoint(make(tmp_path / "a.tgz", files), folder)


@pytest.mark.parametrize("files", [{}, {"model.index": INDEX}, {"model.data-00000-of-00001": DATA}, {"x.txt": b"x"}])
def test_an_archive_without_a_checkpoint_is_refused(tmp_path, folder, files):
    with pytest.raises(ValueError, match=r"a\.tgz contains no checkpoint"):
        copy_checkpoint(make(tmp_path / "a.tgz", files), folder)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make(tmp_path_factory.mktemp("good") / "a.tgz").read_bytes()


def outcome(tmp_path_factory, data: bytes) -> dict[str, bytes] | None:
    """Returns the files copied from an archive, or None if it is refused."""
    folder = tmp_path_factory.mktemp("case")
    (folder / "out").mkdir()
    (folder / "a.tgz").write_bytes(data)
    try:
        copy_checkpoint(folder / "a.tgz", folder / "out")
    except ValueError:
        return None
    return {file.name: file.read_bytes() for file in (folder / "out").iterdir()}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_corruption_is_detected_or_harmless(tmp_path_factory, good, data):
    position = data.draw(st.integers(0, len(good) - 1))
    length = data.draw(st.integers(1, 64))
    noise = data.draw(st.binary(min_size=length, max_size=length))
    copied = outcome(tmp_path_factory, good[:position] + noise + good[position + length :])
    assert copied in (None, {"checkpoint.index": INDEX, "checkpoint.data-00000-of-00001": DATA})


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncation_is_detected(tmp_path_factory, good, data):
    assert outcome(tmp_path_factory, good[: data.draw(st.integers(0, len(good) - 1))]) is None


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=2000), gzipped=st.booleans())
def test_random_bytes_are_refused(tmp_path_factory, noise, gzipped):
    assert outcome(tmp_path_factory, gzip.compress(noise) if gzipped else noise) is None
