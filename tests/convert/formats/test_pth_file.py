"""PyTorch's files, read without running code that they contain."""

import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from golden import reference
from golden.torch_weights import torch_value

from effnetv2_jax.convert.formats.pth_file import open_pth
from effnetv2_jax.convert.frameworks.table import FRAMEWORKS
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.convert.weights import load_weights

torch = pytest.importorskip("torch", minversion="2.6")


def state_dict(framework="timm", spec=reference.TINY):
    shapes = reference.framework_shapes(framework, spec, 10)
    counters = FRAMEWORKS[framework].counter_names(network_tensors(spec, 10))
    tensors = {name: torch.from_numpy(torch_value(name, shape)) for name, shape in shapes.items()}
    return tensors | {name: torch.tensor(0) for name in counters}


def load(path, framework="timm", spec=reference.TINY, **options):
    return load_weights(path, spec, framework=framework, **options)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize(
    ("framework", "spec"),
    [("timm", reference.TINY), ("torchvision", reference.TINY), ("article", reference.ARTICLE_TINY)],
)
def test_a_state_dict_is_read_bit_for_bit(tmp_path, framework, spec, suffix):
    torch.save(state_dict(framework, spec), tmp_path / f"w{suffix}")
    weights = load(tmp_path / f"w{suffix}", framework, spec)
    assert reference.equal(weights.variables, reference.torch_variables(framework, spec, 10))
    assert weights.provenance.padding == {"timm": "same"}.get(framework, "symmetric")
    assert weights.provenance.averaging == "unknown"


@pytest.mark.parametrize("moving_average", [True, False])
def test_a_training_checkpoint_has_raw_and_averaged_weights(tmp_path, moving_average):
    raw = {f"module.{name}": value for name, value in state_dict().items()}
    averaged = {name: value * 2 if value.is_floating_point() else value for name, value in raw.items()}
    averaged["n_averaged"] = torch.tensor(5)
    torch.save({"epoch": 3, "model": raw, "model_ema": averaged}, tmp_path / "w.pth")
    weights = load(tmp_path / "w.pth", moving_average=moving_average)
    expected = reference.torch_variables("timm", reference.TINY, 10)
    assert reference.equal(weights.variables, expected) != moving_average
    assert weights.provenance.averaging == ("averaged" if moving_average else "raw")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats_become_float32(tmp_path, dtype):
    torch.save({name: value.to(dtype) for name, value in state_dict().items()}, tmp_path / "w.pth")
    kernel = load(tmp_path / "w.pth").variables["params"]["stem_conv"]["kernel"]
    expected = state_dict()["conv_stem.weight"].to(dtype).float().numpy()
    np.testing.assert_array_equal(kernel, FRAMEWORKS["timm"].layouts["conv"].to_flax(expected))
    assert kernel.dtype == np.float32


def test_float64_is_refused(tmp_path):
    torch.save({name: value.double() for name, value in state_dict().items()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"conv_stem\.weight is float64"):
        load(tmp_path / "w.pth")


class Malicious:
    def __reduce__(self):
        return os.mkdir, (os.environ["MALICIOUS"],)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, monkeypatch, writer):
    monkeypatch.setenv("MALICIOUS", str(tmp_path / "was here"))
    payload = {"conv_stem.weight": Malicious()}
    if writer == "torch":
        torch.save(payload, tmp_path / "w.pth")
    else:
        (tmp_path / "w.pth").write_bytes(pickle.dumps(payload))
    with pytest.raises(ValueError, match=r"w\.pth is damaged or contains more than tensors"):
        load(tmp_path / "w.pth")
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"no pickle at all"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.pth"):
        load(tmp_path / "w.pth")


def test_a_truncated_file_is_refused(tmp_path):
    torch.save(state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"w\.pth is damaged"):
        load(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [[1, 2], {}, {"model": {"a": 1}}, {"a": "text"}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="contains no state dict"):
        load(tmp_path / "w.pth")


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """Writes a state dict of one tensor whose records `change(name, content)` has changed, with right checksums."""
    torch.save({"w": torch.arange(10.0)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, change(name, content))
    return path


def tensors(path):
    with open_pth(path, moving_average=True) as file:
        return {name: file.read(name) for name in file.shapes}


def replaced(pickled: bytes):
    return lambda name, content: pickled if name.endswith("data.pkl") else content


# Functions that PyTorch's weights-only reader allows, with arguments that make them fill the memory.
BYTEARRAY = b"cbuiltins\nbytearray\nJ" + struct.pack("<i", 2_000_000_000) + b"\x85R"
DOUBLED = b"c_codecs\nencode\n" * 31 + b"X\x04\0\0\0aaaaX\x06\0\0\0latin1\x86R" + b"X\x03\0\0\0hex\x86R" * 30


@pytest.mark.parametrize(
    ("objects", "name"), [(BYTEARRAY, "builtins.bytearray"), (DOUBLED, "_codecs.encode")], ids=["array", "doubled"]
)
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_function_that_weights_do_not_need_is_refused_before_it_is_called(tmp_path, objects, name, kind):
    pickled = b"\x80\x02" + objects + b"."
    if kind == "zip":
        path = rewritten(tmp_path / "w.pth", replaced(pickled))
    else:
        path = tmp_path / "w.pth"
        torch.save({}, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes().replace(b"\x80\x02}q\x00.", pickled))
    with pytest.raises(ValueError, match=f"contains more than tensors.*{name}"):
        tensors(path)


def test_compressed_records_are_refused_before_they_are_unpacked(tmp_path):
    path = rewritten(tmp_path / "w.pth", lambda name, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="has compressed records"):
        tensors(path)


def test_a_tensor_that_is_larger_than_its_record_is_refused(tmp_path):
    claimed = b"J" + struct.pack("<i", 4000)
    path = rewritten(
        tmp_path / "w.pth",
        lambda name, content: content.replace(b"K\ntq", claimed + b"tq").replace(b"K\n\x85q", claimed + b"\x85q"),
    )
    with pytest.raises(ValueError, match=r"w\.pth is damaged"):
        tensors(path)


def test_a_record_that_does_not_match_its_checksum_is_refused(tmp_path):
    torch.save({"w": torch.arange(10.0)}, tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    values = torch.arange(10.0).numpy().tobytes()
    (tmp_path / "w.pth").write_bytes(content.replace(values, values[::-1]))
    with pytest.raises(ValueError, match="the checksum of its record 'w/data/0' is wrong"):
        tensors(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "state",
    [
        {"w": torch.eye(3).to_sparse()},
        {"w": torch.ones(1).expand(1_000_000, 1_000_000)},
        {"w": torch.ones(3, device="meta")},
        {"w": torch.ones(3).to(torch.float8_e4m3fn)},
        {"w": torch.ones(3), "module.w": torch.zeros(3)},
    ],
    ids=["sparse", "expanded", "meta", "float8", "twice"],
)
def test_other_than_plain_tensors_are_refused(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"no plain tensor|more than tensors|does not have|has two tensors"):
        tensors(tmp_path / "w.pth")


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
def test_parameters_and_other_names_than_text_are_read(tmp_path, options):
    torch.save({"w": torch.nn.Parameter(torch.ones(3)), 0: torch.zeros(2)}, tmp_path / "w.pth", **options)
    found = tensors(tmp_path / "w.pth")
    assert {name: value.tolist() for name, value in found.items()} == {"w": [1, 1, 1], "0": [0, 0]}


def test_a_file_may_change_after_it_was_read(tmp_path):
    torch.save({"w": torch.arange(10.0)}, tmp_path / "w.pth")
    found = tensors(tmp_path / "w.pth")["w"]
    with (tmp_path / "w.pth").open("r+b") as file:
        file.write(bytes(2000))
    assert found.tolist() == list(range(10))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "w.pth")
