"""Small valid files of each format, from which damaged and hostile ones are made."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from data.pictures import encoded, picture
from golden import reference

from effnetv2_jax.convert.formats.safetensors_file import write_safetensors
from effnetv2_jax.masked_checksum import masked_crc32c
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.spec_file import spec_text
from effnetv2_jax.train.config import TrainConfig, flatten

_RANDOM = np.random.default_rng(0)
TENSORS = {
    "m/head/bias": _RANDOM.normal(size=5).astype(np.float32),
    "m/stem/conv2d/kernel": _RANDOM.normal(size=(3, 3, 2)).astype(np.float32),
}
PREFIX = "model.ckpt-0"
DATA_NAME = f"{PREFIX}.data-00000-of-00001"


def varint(number: int) -> bytes:
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def field(number: int, value: int | bytes) -> bytes:
    """Returns a field of a protocol buffer."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def entry(dtype: int, shape: Sequence[int], offset: int, size: int, checksum: int, shard: int = 0) -> bytes:
    """Returns the entry of a tensor in an index."""
    dimensions = b"".join(field(2, field(1, length)) for length in shape)
    places = field(1, dtype) + field(2, dimensions) + field(3, shard) + field(4, offset) + field(5, size)
    return places + varint(6 << 3 | 5) + struct.pack("<I", checksum)


def block(rows: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Returns a block of a table with its type and its checksum."""
    content = b"".join(varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in rows)
    content += struct.pack("<II", 0, 1) + b"\0"
    return content + struct.pack("<I", masked_crc32c(content))


def table(rows: Mapping[bytes, bytes], header: bytes = field(1, 1)) -> bytes:
    """Returns an index with these rows and right checksums."""
    first = block([(b"", header), *rows.items()])
    second = block([(b"\xff", varint(0) + varint(len(first) - 5))])
    handles = varint(len(first)) + varint(3) + varint(len(first)) + varint(len(second) - 5)
    return first + second + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def tensors() -> bytes:
    """The data file of a checkpoint."""
    return b"".join(value.tobytes() for value in TENSORS.values())


def index() -> bytes:
    rows, end = {}, 0
    for name, value in TENSORS.items():
        rows[name.encode()] = entry(1, value.shape, end, value.nbytes, masked_crc32c(value))
        end += value.nbytes
    return table(rows)


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in ((f"{PREFIX}.index", index()), (DATA_NAME, tensors())):
            info = tarfile.TarInfo(f"model/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tgz() -> bytes:
    return gzip.compress(tar(), mtime=0)


def safetensors_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.safetensors"
        arrays = {name: (value.shape, lambda value=value: value) for name, value in TENSORS.items()}
        write_safetensors(path, arrays, {"framework": "flax"})
        return path.read_bytes()


def pth(*, legacy: bool = False) -> bytes:
    import torch

    buffer = io.BytesIO()
    state = {name: torch.from_numpy(value) for name, value in TENSORS.items()}
    torch.save(state, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def h5() -> bytes:
    """A file of Keras, in both layouts."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["stem_conv/stem_conv/kernel:0"] = TENSORS["m/stem/conv2d/kernel"]
        file["layers/dense/vars/1"] = TENSORS["m/head/bias"]
        file["layers/dense/vars"].attrs["name"] = "predictions"
    return buffer.getvalue()


def card() -> bytes:
    provenance = Provenance(reference.TINY, 2, "same", 1e-3, eval_size=64, class_names=("cat", "dog"))
    return json.dumps(provenance.to_metadata()).encode()


def spec() -> bytes:
    return spec_text(reference.TINY).encode()


def run_config() -> bytes:
    return json.dumps(flatten(TrainConfig())).encode()


def images() -> dict[str, bytes]:
    small = picture(0, 24, 32)
    return {
        "JPEG": encoded(small),
        "progressive JPEG": encoded(small, progressive=True),
        "CMYK JPEG": encoded(small.convert("CMYK")),
        "PNG": encoded(small, "PNG"),
        "palette PNG": encoded(small.convert("P"), "PNG"),
        "GIF": encoded(small.convert("P"), "GIF", save_all=True, append_images=[picture(1, 24, 32)]),
        "WebP": encoded(small, "WEBP"),
        "BMP": encoded(small, "BMP"),
        "TIFF": encoded(small, "TIFF", compression="tiff_lzw"),
    }


def pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=2)
