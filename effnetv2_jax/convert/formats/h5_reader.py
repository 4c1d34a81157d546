"""Reads a file of Keras and writes its tensors to the standard output: the program of the process that open_h5 starts.

libhdf5 loops for ever or crashes on some damaged files, so it runs in a process of its own, with limits on its time and
its memory. To start fast, this module imports nothing of the package.

libhdf5 also follows links into other files, reads data from files that a data set names, and unpacks compressed data of
any size. Files of Keras have none of these: each data set lies in one piece within the file.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

REFUSED = 3
"""The exit code for a file that is refused; the last line of the error output says why."""

_MAX_OBJECTS = 50_000  # the file of XL's length would have 4,000
_MAX_DEPTH = 32
_MAX_DIMENSIONS = 8
_MEMORY = 2 << 30  # bytes of address space besides the tensors, which is mostly reserved by libraries and not used

# Keras 3 numbers the weights of a layer in this order, by the class of the layer.
_WEIGHTS = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
_KERAS_3 = re.compile(r"(?:.*/)?(?P<layer>[^/]+?)(?:_\d+)?/vars/(?P<number>\d+)")
_OLDER = re.compile(r"(?:model_weights/)?(?P<layer>[^/]+)/(?:.*/)?(?P<weight>[^/:]+)(?::0)?")
_NO_WEIGHTS = ("optimizer_weights/", "optimizer/", "seed_generator/", "normalization/", "normalization_1/")


def main(argv: Sequence[str]) -> int:
    """Reads the file that the first argument names, within the seconds of CPU time that the second one gives."""
    path, seconds = Path(argv[0]), int(argv[1])
    size = path.stat().st_size
    for limit, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, _MEMORY + 2 * size)):
        greatest = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (most if greatest == resource.RLIM_INFINITY else min(most, greatest), greatest))
    try:
        with h5py.File(path, "r", locking=False) as file:
            _write(dict(_named(file, _checked_datasets(file, size))), sys.stdout.buffer)
    except Exception as error:  # h5py raises errors of many classes for damaged files
        print(next(iter(str(error).strip().splitlines()), type(error).__name__), file=sys.stderr)
        return REFUSED
    return 0


def _write(datasets: Mapping[str, Any], output: BinaryIO) -> None:
    """Writes a line of JSON, name of a tensor → shape and dtype, and then the bytes of the floating-point tensors."""
    header = {name: [list(dataset.shape), dataset.dtype.str] for name, dataset in datasets.items()}
    output.write(json.dumps(header).encode() + b"\n")
    for dataset in datasets.values():
        if dataset.dtype.kind == "f":
            output.write(np.ascontiguousarray(dataset[()]).data)


def _named(file: Any, datasets: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yields each tensor with its name.

    Raises:
      ValueError: if two have the same name, or a layer has none.
    """
    found: set[str] = set()
    for full, dataset in datasets:
        name = _keras_3_name(file, full) if "/vars/" in full else _older_name(full)
        if name is None:
            continue
        if name in found:
            raise ValueError(f"it has two tensors {name!r}")
        found.add(name)
        yield name, dataset


def _keras_3_name(file: Any, full: str) -> str | None:
    """Returns the name of a tensor; None if it is no weight of a layer. Its group records the name of the layer."""
    parts = _KERAS_3.fullmatch(full)
    if parts is None or parts["layer"] not in _WEIGHTS:
        return None if full.startswith(_NO_WEIGHTS) else full
    layer = file[full.rpartition("/")[0]].attrs.get("name")
    if not isinstance(layer, str):
        raise ValueError(
            f"its group {full.rpartition('/')[0]!r} does not record the name of a layer, as files of older versions of "
            "Keras 3; load the file in a newer one and save it again"
        )
    weights = _WEIGHTS[parts["layer"]]
    number = int(parts["number"])
    return f"{layer}/{weights[number]}" if number < len(weights) else full


def _older_name(full: str) -> str | None:
    if full.startswith(_NO_WEIGHTS):
        return None
    parts = _OLDER.fullmatch(full)
    return f"{parts['layer']}/{parts['weight'].removeprefix('depthwise_')}" if parts else full


def _checked_datasets(file: Any, size: int) -> Iterator[tuple[str, Any]]:
    """Yields the path of each data set in an open HDF5 file, such as `stem_conv/stem_conv/kernel:0`, and the data set.

    Args:
      file: the open file.
      size: its number of bytes.

    Raises:
      ValueError: for a link, a data set that does not lie within the file in one piece, or too many objects.
    """
    taken = 0
    seen: set[int] = set()
    groups: list[tuple[str, Any, int]] = [("", file, 0)]
    while groups:
        prefix, group, depth = groups.pop()
        for name in group:
            full = f"{prefix}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{full[:200]!r} is a link to another place")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen or len(seen) == _MAX_OBJECTS or depth == _MAX_DEPTH:
                raise ValueError(f"{full[:200]!r} occurs twice, or is one of too many objects")
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append((f"{full}/", item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                taken += _checked_bytes(full, item, size)
                if taken > size:
                    raise ValueError("its data sets share their bytes")
                yield full, item


def _checked_bytes(name: str, dataset: Any, size: int) -> int:
    """Returns the number of bytes of a data set.

    Raises:
      ValueError: if it does not lie within the file in one piece.
    """
    layout = dataset.id.get_create_plist().get_layout()
    is_plain = layout in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not dataset.external and not dataset.is_virtual
    if not is_plain or dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{name[:200]!r} is compressed, or lies in pieces or in another file; Keras does not write so")
    if dataset.shape is None or len(dataset.shape) > _MAX_DIMENSIONS:
        raise ValueError(f"{name[:200]!r} has the shape {dataset.shape}")
    offset = dataset.id.get_offset() or 0
    bytes_needed = int(dataset.size) * int(dataset.dtype.itemsize)
    if layout == h5py.h5d.CONTIGUOUS and bytes_needed and dataset.id.get_storage_size() != bytes_needed:
        raise ValueError(f"{name[:200]!r} lacks its data")
    if bytes_needed > size or offset + (bytes_needed if layout == h5py.h5d.CONTIGUOUS else 0) > size:
        raise ValueError(f"{name[:200]!r} lies beyond the end of the file")
    return bytes_needed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
