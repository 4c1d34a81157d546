"""Reads PyTorch's `.pth` files without running code that they may contain."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effnetv2_jax.convert.formats.digest import file_sha256
from effnetv2_jax.convert.formats.tensor_file import TensorFile

PTH_SUFFIXES = (".pth", ".pt", ".bin")

# The keys under which training scripts of timm and torchvision store averaged and raw weights.
_AVERAGED = ("state_dict_ema", "model_ema")
_RAW = ("state_dict", "model")
_WRAPPER = "module."
_NO_WEIGHTS = ("n_averaged",)

_DAMAGE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError)


@contextlib.contextmanager
def open_pth(path: Path, *, moving_average: bool) -> Iterator[TensorFile]:
    """Opens a `.pth`, `.pt` or `.bin` file with PyTorch's weights-only reader, which needs PyTorch 2.6 or later.

    The checkpoint of a training script may contain averaged and raw weights; `moving_average` selects the averaged
    ones.

    Raises:
      ImportError: if PyTorch is not installed or too old.
      ValueError: for a file that is damaged or contains anything except tensors.
      OSError: if the file does not exist or cannot be read.
    """
    path.open("rb").close()  # raises OSError for a missing file even if PyTorch is not installed
    torch = _torch()
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path} is damaged or contains more than tensors, so it is not read: {reason[0]}") from error
    state, averaging = _state_dict(loaded, moving_average, path)

    def read(name: str) -> np.ndarray:
        tensor = state[name]
        return tensor.float().numpy() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor.numpy()

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
    return {name.removeprefix(_WRAPPER): value for name, value in loaded.items() if name not in _NO_WEIGHTS}, metadata
