"""PyTorch's files, read without running code that they contain."""

import os
import pickle

import numpy as np
import pytest
from golden import reference
from golden.torch_weights import torch_value

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


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "w.pth")
