"""Safetensors files: the library reads what is written, and damage is detected."""

import os

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effnetv2_jax.convert.formats.safetensors_file import open_safetensors, write_safetensors

ARRAYS = {
    "b": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "a": np.random.default_rng(1).normal(size=(5,)).astype(np.float32),
}


def write(path, arrays=ARRAYS, **options):
    write_safetensors(path, {name: (a.shape, lambda a=a: a) for name, a in arrays.items()}, {"fact": "é"}, **options)
    return path


def read(path):
    with open_safetensors(path) as file:
        return {name: file.read(name) for name, shape in file.shapes.items() if shape}, file.metadata


def test_the_library_reads_what_is_written(tmp_path):
    loaded = safetensors.numpy.load_file(write(tmp_path / "w.safetensors", counters=["n"]))
    assert loaded["n"].dtype == np.int64
    assert loaded["n"] == 0
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name], expected)


def test_a_round_trip_changes_nothing(tmp_path):
    tensors, metadata = read(write(tmp_path / "w.safetensors", counters=["n"]))
    assert tensors.keys() == ARRAYS.keys()
    assert all(np.array_equal(tensors[name], ARRAYS[name]) for name in ARRAYS)
    assert metadata["fact"] == "é"


def test_writing_the_same_tensors_gives_the_same_bytes(tmp_path):
    assert write(tmp_path / "1").read_bytes() == write(tmp_path / "2").read_bytes()


def test_16_bit_floats_are_read(tmp_path):
    arrays = {"h": np.ones(3, np.float16), "b": np.full(3, 1.5, ml_dtypes.bfloat16)}
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    tensors, _ = read(tmp_path / "w.safetensors")
    assert {name: value.dtype.name for name, value in tensors.items()} == {"h": "float16", "b": "bfloat16"}


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "w.safetensors")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_corruption_is_detected_or_harmless(tmp_path, data):
    path = write(tmp_path / "w.safetensors")
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=8))
    cut = data.draw(st.booleans())
    path.write_bytes(content[:position] + (b"" if cut else noise + content[position + len(noise) :]))
    try:
        tensors, metadata = read(path)
    except ValueError:
        return
    assert not cut
    if "tensors_sha256" in metadata:  # otherwise the key itself is damaged, and nothing can be compared
        for name in tensors.keys() & ARRAYS.keys():
            assert np.array_equal(tensors[name], ARRAYS[name])


def raw(path, header: bytes, data: bytes = b"", length: int | None = None):
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)
    return path


ENTRY = '"a":{"dtype":"F32","shape":%s,"data_offsets":[%d,%d]}'


@pytest.mark.parametrize("length", [10**18, (1 << 64) - 1, 90 << 20])
def test_a_header_that_claims_too_much_is_refused_before_it_is_read(tmp_path, length):
    with pytest.raises(ValueError, match=f"its header claims {length:,} bytes"):
        read(raw(tmp_path / "w.safetensors", b"{}", length=length))


@pytest.mark.parametrize(
    "header",
    [
        ENTRY % ("[1000000000000000000]", 0, 8),
        ENTRY % ("[4294967296,4294967296]", 0, 8),
        ENTRY % ("[2]", -8, 0),
        ENTRY % ("[2]", 8, 16),
        ENTRY % ("[2]", 0, 1 << 63),
        ENTRY % ("[2]", 8, 0),
        ENTRY % ("[1]", 0, 4) + "," + (ENTRY % ("[2]", 0, 8)).replace('"a"', '"b"'),
        ENTRY % ("[1]", 0, 4) + "," + ENTRY % ("[2]", 0, 8),
        ENTRY % ("[0,18446744073709551615]", 0, 0) + "," + (ENTRY % ("[2]", 0, 8)).replace('"a"', '"b"'),
        '"a":' * 5 + "1",
        '"a":' + "[" * 100_000,
    ],
    ids=[
        *("huge", "product", "negative", "beyond", "end", "reversed", "overlap", "twice", "unrepresentable", "no JSON"),
        "nested",
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path, header):
    with pytest.raises(ValueError, match=r"is damaged or not a safetensors file|has the shape"):
        read(raw(tmp_path / "w.safetensors", b"{%s}" % header.encode(), bytes(8)))


def test_a_pipe_and_a_file_without_end_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    with (tmp_path / "b.safetensors").open("wb") as file:
        file.truncate(1 << 40)
    for name, message in (("a", "is no regular file"), ("b", "and the limit is 17")):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / f"{name}.safetensors")
