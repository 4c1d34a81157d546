"""TensorFlow's checkpoints: the tensors are those that TensorFlow reads, and damage is detected."""

import shutil

import numpy as np
import pytest
from golden import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from effnetv2_jax.convert.formats.tensor_bundle import TensorBundle

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
