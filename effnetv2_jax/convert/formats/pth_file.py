"""Reads PyTorch's `.pth` files without running code that they may contain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effnetv2_jax.convert.formats.digest import file_sha256
from effnetv2_jax.convert.formats.pth_contents import check_pth
from effnetv2_jax.convert.formats.tensor_file import TensorFile

PTH_SUFFIXES = (".pth", ".pt", ".bin")

# The keys under which training scripts of timm and torchvision store averaged and raw weights.
_AVERAGED = ("state_dict_ema", "model_ema")
_RAW = ("state_dict", "model")
_WRAPPER = "module."
_NO_WEIGHTS = ("n_averaged",)


@contextlib.contextmanager
def open_pth(path: Path, *, moving_average: bool) -> Iterator[TensorFile]:
    """Opens a `.pth`, `.pt` or `.bin` file with PyTorch's weights-only reader, which needs PyTorch 2.6 or later.

    The reader sees only files that pass `check_pth`. The checkpoint of a training script may contain averaged and raw
    weights; `moving_average` selects the averaged ones.

    Raises:
      ImportError: if PyTorch is not installed or too old.
      ValueError: for a file that is damaged or contains anything except tensors.
      OSError: if the file does not exist or cannot be read.
    """
    path.open("rb").close()  # raises OSError for a missing file even if PyTorch is not installed
    torch = _torch()
    try:
        # A mapped file is read from its own bytes only, whatever sizes it claims.
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=check_pth(path))
    except OSError:
        raise
    except Exception as error:  # PyTorch's readers fail on damaged files in many ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is damaged or contains more than tensors, so it is not read: {reason}") from error
    state, averaging = _state_dict(loaded, moving_average, path)

    def read(name: str) -> np.ndarray:
        tensor = state[name].detach()
        try:
            values = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
        except (TypeError, RuntimeError) as error:
            raise ValueError(
                f"{name} is {str(tensor.dtype).removeprefix('torch.')}, which NumPy does not have"
            ) from error
        return np.array(values)  # a copy, because the file may change while it is mapped

    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    yield TensorFile(shapes, read, averaging, file_sha256(path))


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError("reading .pth files needs the extra 'torch': pip install 'effnetv2_jax[torch]'") from error
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < (2, 6):
        raise ImportError(f"reading .pth files safely needs PyTorch 2.6 or later; {torch.__version__} is installed")
    return torch


def _state_dict(loaded: Any, moving_average: bool, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the weights in a loaded file, without wrappers, and metadata that says whether they are averaged."""
    torch = _torch()
    metadata = {}
    keys = (*_AVERAGED, *_RAW) if moving_average else (*_RAW, *_AVERAGED)
    for key in keys:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded, metadata = loaded[key], {"averaging": "averaged" if key in _AVERAGED else "raw"}
            break
    if not (isinstance(loaded, Mapping) and loaded and all(isinstance(v, torch.Tensor) for v in loaded.values())):
        raise ValueError(f"{path} contains no state dict, neither alone nor under one of the keys {', '.join(keys)}")
    state: dict[str, Any] = {}
    for key, tensor in loaded.items():
        name = str(key).removeprefix(_WRAPPER)
        if name in state:
            raise ValueError(f"{path} has two tensors {name!r}, with and without {_WRAPPER!r}")
        if not _is_plain(tensor):
            raise ValueError(f"{path}: {name!r} is no plain tensor; sparse, quantised and expanded ones are not read")
        state[name] = tensor
    return {name: value for name, value in state.items() if name not in _NO_WEIGHTS}, metadata


def _is_plain(tensor: Any) -> bool:
    """Whether a tensor lies in the memory with all its elements, so that its shape says how much it takes."""
    if tensor.layout is not _torch().strided or tensor.is_quantized or tensor.device.type != "cpu":
        return False
    return bool(tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes())
