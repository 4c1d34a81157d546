"""TensorFlow's checkpoints: the tensors are those that TensorFlow reads, and damage is detected."""

import os
import shutil

import numpy as np
import pytest
from golden import reference
from hostile import valid_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effnetv2_jax.convert.formats.tensor_bundle import TensorBundle
from effnetv2_jax.masked_checksum import masked_crc32c

NAME = "model.ckpt-0"
FILES = (f"{NAME}.index", f"{NAME}.data-00000-of-00001")
KERNEL = "efficientnetv2-b0/head_1/dense/kernel"


@pytest.fixture(scope="module")
def intact():
    bundle = TensorBundle(reference.TINY_CHECKPOINT / NAME)
    return {name: bundle.read(name) for name in bundle.entries}


def test_tensors_equal_those_that_tensorflow_reads(intact):
    tf = pytest.importorskip("tensorflow")
    reader = tf.train.load_checkpoint(str(reference.TINY_CHECKPOINT / NAME))
    assert intact.keys() == reader.get_variable_to_shape_map().keys()
    for name, value in intact.items():
        expected = reader.get_tensor(name)
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)


def test_names_and_shapes_are_those_of_the_model(intact):
    network = "efficientnetv2-b0, width 0.25, depth 0.3, 10 classes"
    shapes = {f"efficientnetv2-b0/{name}": shape for name, shape in reference.names("official")[network].items()}
    shapes |= {f"{name}/ExponentialMovingAverage": shape for name, shape in shapes.items()}
    assert {name: value.shape for name, value in intact.items()} == shapes | {"global_step": ()}


def test_every_numeric_type_is_read_and_text_is_refused(tmp_path):
    tf = pytest.importorskip("tensorflow")
    values = {
        "half": np.ones(3, np.float16),
        "double": np.full((2, 0), 1.0),
        "int32": np.int32(-5),
        "int64": np.arange(3),
        "brain": tf.cast(tf.constant([1.5, 2.0]), tf.bfloat16),
        "text": tf.constant(["a"]),
        **{f"many/{i:04d}": np.float32(i) for i in range(2000)},  # more than fit into one block of the index
    }
    names = sorted(values)
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "c"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[values[name] for name in names],
    )
    bundle = TensorBundle(tmp_path / "c")
    assert list(bundle.entries) == names
    for name in set(names) - {"text"}:
        np.testing.assert_array_equal(bundle.read(name), np.asarray(values[name]))
    with pytest.raises(ValueError, match="text has the TensorFlow type 7"):
        bundle.read("text")


def copy(folder):
    for file in FILES:
        shutil.copy(reference.TINY_CHECKPOINT / file, folder / file)
    return folder / NAME


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_corruption_of_the_index_is_always_detected(tmp_path, data):
    prefix = copy(tmp_path)
    index = tmp_path / FILES[0]
    content = index.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=40))
    cut = data.draw(st.booleans())
    damaged = content[:position] + (b"" if cut else noise + content[position + len(noise) :])
    index.write_bytes(damaged)
    try:
        entries = TensorBundle(prefix).entries
    except ValueError:
        return
    assert entries == TensorBundle(reference.TINY_CHECKPOINT / NAME).entries  # the damaged bytes are not used


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_corruption_of_a_tensor_is_always_detected(tmp_path, data):
    bundle = TensorBundle(copy(tmp_path))
    entry = bundle.entries[KERNEL]
    content = bytearray((tmp_path / FILES[1]).read_bytes())
    content[entry.offset + data.draw(st.integers(0, entry.size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / FILES[1]).write_bytes(content)
    with pytest.raises(ValueError, match=f"{KERNEL} is damaged"):
        bundle.read(KERNEL)


def test_a_data_file_that_is_cut_off_is_refused(tmp_path):
    bundle = TensorBundle(copy(tmp_path))
    (tmp_path / FILES[1]).write_bytes((tmp_path / FILES[1]).read_bytes()[:1000])
    with pytest.raises(ValueError, match="its file is cut off"):
        bundle.read(KERNEL)


def test_a_missing_data_file_is_refused(tmp_path):
    bundle = TensorBundle(copy(tmp_path))
    (tmp_path / FILES[1]).unlink()
    with pytest.raises(FileNotFoundError):
        bundle.read(KERNEL)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=300))
def test_random_bytes_are_refused_as_an_index(tmp_path, noise):
    magic = (0xDB4775248B80FB57).to_bytes(8, "little")
    for content in (noise, noise + magic):
        (tmp_path / "c.index").write_bytes(content)
        with pytest.raises(ValueError, match=r"c\.index is damaged or not the index"):
            TensorBundle(tmp_path / "c")


def claim(folder, *entries, header=b"\x08\x01"):
    """Opens a checkpoint of 72 bytes whose index claims these entries, with right checksums."""
    names = [b"%d" % number for number in range(len(entries))]
    (folder / "c.index").write_bytes(valid_files.table(dict(zip(names, entries, strict=True)), header))
    (folder / "c.data-00000-of-00001").write_bytes(bytes(72))
    return TensorBundle(folder / "c")


CHECKSUM = masked_crc32c(bytes(72))
HUGE = 10**18


@pytest.mark.parametrize(
    ("shape", "offset", "size", "shard"),
    [
        ((HUGE,), 0, 4 * HUGE, 0),
        ((1 << 32, 1 << 32), 0, 72, 0),
        ((1 << 39, 1 << 39), 0, 1 << 80, 0),
        ((0, 1 << 40, 1 << 40), 0, 0, 0),
        ((18,), (1 << 64) - 8, 72, 0),
        ((18,), HUGE, 72, 0),
        ((18,), 0, 72, 1),
        ((18,), 0, 72, (1 << 64) - 1),
        ((1,) * 9, 0, 4, 0),
        ((17,), 0, 72, 0),
    ],
)
def test_claims_that_cannot_be_are_refused(tmp_path, shape, offset, size, shard):
    with pytest.raises(ValueError, match=r"is damaged|cannot be|too large|[Mm]aximum"):
        claim(tmp_path, valid_files.entry(1, shape, offset, size, CHECKSUM, shard)).read("0")


def test_tensors_that_share_bytes_are_refused(tmp_path):
    whole, last = valid_files.entry(1, (18,), 0, 72, CHECKSUM), valid_files.entry(1, (1,), 68, 4, 0)
    empty = valid_files.entry(1, (0,), 8, 0, 0)
    assert claim(tmp_path, whole, empty).read("0").shape == (18,)
    with pytest.raises(ValueError, match="two tensors share the bytes at 68 of data file 0"):
        claim(tmp_path, whole, last)


@pytest.mark.parametrize(
    ("entry", "header"),
    [
        (valid_files.field(1, b"\x01"), b"\x08\x01"),
        (valid_files.field(2, 5), b"\x08\x01"),
        (valid_files.field(2, valid_files.field(2, 5)), b"\x08\x01"),
        (b"", valid_files.field(1, b"")),
        (b"", valid_files.field(1, 10**9)),
        (b"", valid_files.field(1, 0)),
    ],
)
def test_a_field_of_another_type_or_range_is_refused(tmp_path, entry, header):
    with pytest.raises(ValueError, match=r"c\.index (is damaged|claims)"):
        claim(tmp_path, entry, header=header)


def test_an_index_that_is_too_large_or_a_pipe_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "c.index").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"c\.index has 1\.1 TB, and the limit is 16\.8 MB"):
        TensorBundle(tmp_path / "c")
    os.mkfifo(tmp_path / "d.index")
    with pytest.raises(ValueError, match=r"d\.index is no regular file"):
        TensorBundle(tmp_path / "d")
