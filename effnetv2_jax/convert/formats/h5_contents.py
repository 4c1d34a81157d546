"""The data sets of an HDF5 file, checked before they are read, because the file may come from anyone.

libhdf5 follows links into other files, reads data from files that a data set names, and unpacks compressed data of any
size. Files of Keras have none of these: each data set lies in one piece within the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effnetv2_jax.convert.formats.tensor_file import MAX_WEIGHT_BYTES
from effnetv2_jax.regular_file import checked_size

_MAX_OBJECTS = 50_000  # the file of XL's length would have 4,000
_MAX_DEPTH = 32
_MAX_DIMENSIONS = 8


def checked_datasets(h5py: Any, file: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the path of each data set in an open HDF5 file, such as `stem_conv/stem_conv/kernel:0`, and the data set.

    Args:
      h5py: the package.
      file: the open file.
      path: its path.

    Raises:
      ValueError: for a link, a data set that does not lie within the file in one piece, or too many objects.
    """
    size, taken = checked_size(path, MAX_WEIGHT_BYTES), 0
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
                taken += _checked_bytes(h5py, full, item, size)
                if taken > size:
                    raise ValueError("its data sets share their bytes")
                yield full, item


def _checked_bytes(h5py: Any, name: str, dataset: Any, size: int) -> int:
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
