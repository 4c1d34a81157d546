"""The readers of files that may come from anyone, each with the errors that it may raise and the memory it may take."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from hostile import valid_files

MB = 1 << 20


def our_errors() -> tuple[type[Exception], ...]:
    return ValueError, OSError


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
      read: reads bytes, with a folder for files.
      memory: bytes that reading may take at most.
      errors: returns the errors that it may raise.
      share: how many inputs it gets for each input of another reader; few if it starts a process for each.
    """

    read: Callable[[Path, bytes], Any]
    memory: int
    errors: Callable[[], tuple[type[Exception], ...]] = our_errors
    share: float = 1.0


def _written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _opened(context: AbstractContextManager[Any]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Reads every tensor of a file: name → dtype, shape and digest."""
    with context as file:
        values = {name: np.asarray(file.read(name)) for name in file.shapes}
    return {name: (str(a.dtype), a.shape, hashlib.sha256(a.tobytes()).digest()) for name, a in values.items()}


def _checkpoint(folder: Path, data: bytes, *, name: str) -> Any:
    from effnetv2_jax.convert.formats.tensorflow_checkpoint import open_checkpoint

    parts = {f"{valid_files.PREFIX}.index": valid_files.index(), valid_files.DATA_NAME: valid_files.tensors()}
    for part, content in (parts | {name: data}).items():
        path = _written(folder, part, content)
    path = folder / name if name.endswith((".tgz", ".tar")) else folder / valid_files.PREFIX
    return _opened(open_checkpoint(path, moving_average=False))


def _safetensors(folder: Path, data: bytes) -> Any:
    from effnetv2_jax.convert.formats.safetensors_file import DIGEST, open_safetensors

    path = _written(folder, "w.safetensors", data)
    with open_safetensors(path) as file:
        has_digest = DIGEST in file.metadata
    return has_digest, _opened(open_safetensors(path))


def _pth(folder: Path, data: bytes) -> Any:
    from effnetv2_jax.convert.formats.pth_file import open_pth

    return _opened(open_pth(_written(folder, "w.pth", data), moving_average=True))


def _h5(folder: Path, data: bytes) -> Any:
    from effnetv2_jax.convert.formats import h5_file

    h5_file._SECONDS = 5  # libhdf5 hangs on some of the inputs
    return _opened(h5_file.open_h5(_written(folder, "w.h5", data)))


def _picture(folder: Path, data: bytes) -> Any:
    from effnetv2_jax.predict.images import read_image

    return read_image(_written(folder, "a.png", data)).shape


def _decoded(_: Path, data: bytes) -> Any:
    """Decodes as training does: the whole image, parts of it, and what the look at its header says."""
    from effnetv2_jax.data.cpu_tensorflow import tf
    from effnetv2_jax.data.images.decoding import decode
    from effnetv2_jax.data.images.image_header import ruled_out, why_not_decoded

    try:
        shape = tuple(decode(tf.constant(data)).shape)
    except tf.errors.OpError:
        assert why_not_decoded(data)
        raise
    for least_size in (0, 4):
        assert _part(least_size)(tf.constant(data)).shape[-1] == 3
    assert not ruled_out(io.BytesIO(data))
    return shape


@functools.cache
def _part(least_size: int) -> Any:
    from effnetv2_jax.data.cpu_tensorflow import tf
    from effnetv2_jax.data.images.decoding import decode_window

    def window(height: Any, width: Any) -> Any:
        return height // 4, width // 4, (height + 1) // 2, (width + 1) // 2

    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(lambda data: decode_window(data, window, least_size), signature, autograph=False)


def _decoding_errors() -> tuple[type[Exception], ...]:
    from effnetv2_jax.data.cpu_tensorflow import tf

    return (tf.errors.OpError,)


def _card(folder: Path, data: bytes) -> Any:
    from effnetv2_jax.convert.formats.run_folder import read_card
    from effnetv2_jax.model.efficientnetv2 import create_model
    from effnetv2_jax.model.provenance import CARD, provenance_from_metadata

    _written(folder, CARD, data)
    provenance = provenance_from_metadata(read_card(folder / "checkpoints" / "1"))
    if provenance is not None:
        create_model(provenance.spec, num_classes=provenance.num_classes, **provenance.model_fields)
        assert provenance_from_metadata(provenance.to_metadata()) == provenance
    return provenance is not None


def _spec(folder: Path, data: bytes) -> Any:
    from effnetv2_jax.model.efficientnetv2 import create_model
    from effnetv2_jax.model.spec_file import parse_spec, spec_text

    spec = create_model(str(_written(folder, "spec.json", data))).spec
    assert parse_spec(spec_text(spec)) == spec
    return True


def _run_config(folder: Path, data: bytes) -> Any:
    from effnetv2_jax.train.config import check_config, flatten
    from effnetv2_jax.train.evaluation import run_config

    _written(folder, "config.json", data)
    config = run_config(str(folder))
    json.dumps(flatten(config))
    check_config(config)
    return True


def _command_line(_: Path, data: bytes) -> Any:
    from effnetv2_jax.cli.options.config_file import load_config
    from effnetv2_jax.train.config import check_config

    config, *overrides = data.decode(errors="replace").split("\n")
    check_config(load_config(types.SimpleNamespace(config=config, overrides=overrides)))
    return True


READERS = {
    "tgz": Reader(functools.partial(_checkpoint, name="c.tgz"), 64 * MB),
    "tar": Reader(functools.partial(_checkpoint, name="c.tar"), 64 * MB),
    "index": Reader(functools.partial(_checkpoint, name=f"{valid_files.PREFIX}.index"), 64 * MB),
    "tensors": Reader(functools.partial(_checkpoint, name=valid_files.DATA_NAME), 64 * MB),
    "safetensors": Reader(_safetensors, 64 * MB),
    "pth": Reader(_pth, 128 * MB),
    "legacy pth": Reader(_pth, 128 * MB),
    "h5": Reader(_h5, 64 * MB, share=0.1),
    "picture": Reader(_picture, 2048 * MB),
    "decoded": Reader(_decoded, 2048 * MB, _decoding_errors),
    "card": Reader(_card, 256 * MB),
    "spec": Reader(_spec, 256 * MB),
    "run config": Reader(_run_config, 256 * MB),
    "command line": Reader(_command_line, 256 * MB),
}
