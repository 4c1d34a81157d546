"""The cost of a program on a TPU that is not there, from compiling it."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from effnetv2_jax.analysis.hlo import read_cost
from effnetv2_jax.analysis.topology import Topology
from effnetv2_jax.train.devices.memory import DeviceMemoryError, compile_within, program_bytes
from effnetv2_jax.train.programs import Source

CACHE = "~/.cache/effnetv2_jax/plans"
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class ProgramCost:
    """One call of a compiled program on one device.

    Attributes:
      hbm_bytes: arguments, results and temporaries that live at once, and the code.
      flops: of matrix products and convolutions and the rest, two a multiply-add.
      bytes_accessed: read and written, of which the fast memory serves a part.
      estimated_cycles: by the compiler; communication is not among them.
      cycles_by_kind: cycles by kind of operation.
      cycles_by_layer: cycles by layer.
      all_reduce_bytes: of all their results.
      all_reduce_groups: devices that sum together → number of all-reduces.
      compile_seconds: what it took to compile, whether now or at the time that the cache remembers.
      dcn_transfers: messages to other slices, over the data-centre network.
      dcn_bytes: of all of them.
    """

    hbm_bytes: int
    flops: float
    bytes_accessed: float
    estimated_cycles: int
    cycles_by_kind: Mapping[str, int]
    cycles_by_layer: Mapping[str, int]
    all_reduce_count: int
    all_reduce_bytes: int
    all_reduce_groups: Mapping[str, int]
    compile_seconds: float
    dcn_transfers: int = 0
    dcn_bytes: int = 0


def program_cost(source: Source, topology: Topology, cache: str = CACHE) -> ProgramCost:
    """Lowers a program for a slice and compiles it, or finds what that told an earlier time.

    Args:
      source: the program, on a mesh of the slice.
      topology: the slice.
      cache: a folder of costs by content: the lowered program, the slice and the compiler; "" keeps none.

    Raises:
      DeviceMemoryError: if it needs more memory than a device of the slice has.
    """
    lowered = source.jitted().lower(*source.arguments)
    path = _cached(cache, lowered.as_text(), topology) if cache else None
    if path and path.is_file():
        kept = json.loads(path.read_text())
        if "needed" in kept:
            raise DeviceMemoryError(**kept)
        return ProgramCost(**kept)
    start = time.perf_counter()
    try:
        cost = _read(compile_within(lowered, None), topology, start)
    except DeviceMemoryError as error:
        _keep(path, {"needed": error.needed, "available": error.available})
        raise
    _keep(path, dataclasses.asdict(cost))
    return cost


def _keep(path: Path | None, told: Mapping[str, Any]) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        part.write_text(json.dumps(told, indent=1))
        part.replace(path)


def _read(compiled: jax.stages.Compiled, topology: Topology, start: float) -> ProgramCost:
    counted: Any = compiled.cost_analysis()
    read = read_cost(compiled.as_text() or "")
    groups = collections.Counter(str(each.group_size or topology.devices) for each in read.all_reduces)
    return ProgramCost(
        hbm_bytes=program_bytes(compiled),
        flops=counted["flops"],
        bytes_accessed=counted["bytes accessed"],
        estimated_cycles=read.cycles,
        cycles_by_kind=read.by_kind,
        cycles_by_layer=read.by_layer,
        all_reduce_count=len(read.all_reduces),
        all_reduce_bytes=sum(each.bytes for each in read.all_reduces),
        all_reduce_groups=dict(groups),
        compile_seconds=round(time.perf_counter() - start, 1),
        dcn_transfers=len(read.sends),
        dcn_bytes=sum(read.sends),
    )


def _cached(cache: str, program: str, topology: Topology) -> Path:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "libtpu")]
    content = "\n".join([str(_FORMAT), topology.name, *versions, program])
    return Path(cache).expanduser() / f"{hashlib.sha256(content.encode()).hexdigest()}.json"
