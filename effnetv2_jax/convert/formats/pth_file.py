"""PyTorch's state dicts: what they hold beside the weights, and `.pth` files, read without running code of theirs."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from effnetv2_jax.convert.formats.tensor_file import TensorFile
from effnetv2_jax.convert.names import TensorRow
from effnetv2_jax.model.provenance import file_sha256

PTH_SUFFIXES = (".pth", ".pt", ".bin")

# Under which key training scripts of timm and torchvision keep the weights: averaged ones, and raw ones.
_AVERAGED = ("state_dict_ema", "model_ema")
_RAW = ("state_dict", "model")
_WRAPPER = "module."
_NO_WEIGHTS = ("n_averaged",)


def counter_names(rows: Sequence[TensorRow], convention: str) -> list[str]:
    """Returns the names of BatchNorm's step counters, which PyTorch stores beside the statistics and we ignore."""
    variances = (row.name(convention) for row in rows if row.path.endswith("/var"))
    return [name.replace("running_var", "num_batches_tracked") for name in variances]


@contextlib.contextmanager
def open_pth(path: Path, *, moving_average: bool) -> Iterator[TensorFile]:
    """Opens a `.pth` or `.pt` file with PyTorch's weights-only reader; it needs PyTorch 2.6 or later.

    A training script's checkpoint has several sets of weights: `moving_average` picks the averaged one.

    Raises:
      ImportError: without PyTorch.
      ValueError: for a file that is damaged, or holds anything else than tensors.
      OSError: if it is not there or cannot be read.
    """
    torch = _torch()
    path.open("rb").close()  # a missing file is an OSError, whatever the reader makes of it
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path} is damaged or holds more than tensors, and is not opened: {reason[0]}") from error
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
        raise ImportError("reading .pth files needs PyTorch: pip install 'effnetv2_jax[torch]'") from error
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < (2, 6):
        raise ImportError(f"reading .pth files safely needs PyTorch 2.6 or later, this is {torch.__version__}")
    return torch


def _state_dict(loaded: Any, moving_average: bool, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Finds the weights in what a file holds, without wrappers, and what the file says of their averaging."""
    torch = _torch()
    facts = {}
    keys = (*_AVERAGED, *_RAW) if moving_average else (*_RAW, *_AVERAGED)
    for key in keys:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded, facts = loaded[key], {"averaging": "averaged" if key in _AVERAGED else "raw"}
            break
    if not (isinstance(loaded, Mapping) and loaded and all(isinstance(v, torch.Tensor) for v in loaded.values())):
        raise ValueError(f"{path} holds no state dict: names and tensors, alone or under {', '.join(keys)}")
    return {name.removeprefix(_WRAPPER): value for name, value in loaded.items() if name not in _NO_WEIGHTS}, facts
