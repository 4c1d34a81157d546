"""Finds the cost of a program on a TPU slice by compiling for the slice, which this machine need not have."""

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
from effnetv2_jax.train.devices.memory import DeviceMemoryError, UnknownOptionError, compile_within, program_bytes
from effnetv2_jax.train.devices.program import Program

CACHE = "~/.cache/effnetv2_jax/plans"
_FORMAT = 2


@dataclasses.dataclass(frozen=True)
class ProgramCost:
    """The estimated cost of one call of a compiled program on one device.

    Attributes:
      hbm_bytes: memory for the code, and for the arguments, results and temporaries that are alive at the same time.
      flops: floating-point operations; a multiply-add counts as two.
      bytes_accessed: bytes read and written, in HBM and in the fast on-chip memory.
      estimated_cycles: the compiler's estimate; it excludes communication and asynchronous copies.
      cycles_by_kind: cycles by kind of operation.
      cycles_by_layer: cycles by layer.
      all_reduce_count: number of all-reduces.
      all_reduce_bytes: bytes of the results of all all-reduces.
      all_reduce_groups: number of devices that sum together, as a string → number of such all-reduces.
      compile_seconds: time that compiling took; a cost from the cache keeps the time of the original compilation.
      waiting_bytes: bytes of those all-reduces that the devices wait for without computing meanwhile.
      digest: digest of the program before it was compiled, as JAX lowered it; options are not part of it.
      dcn_transfers: number of messages to other slices, over the data-centre network.
      dcn_bytes: bytes of all these messages.
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
    waiting_bytes: int = 0
    digest: str = ""
    dcn_transfers: int = 0
    dcn_bytes: int = 0

    def slowest_layers(self, count: int) -> list[tuple[str, int]]:
        """Returns the `count` layers that take the most cycles, with their cycles, slowest first."""
        return sorted(self.cycles_by_layer.items(), key=lambda item: -item[1])[:count]


def program_cost(program: Program, topology: Topology, cache: str = CACHE) -> ProgramCost:
    """Compiles a program for a slice and returns its cost, or reads the cost from the cache.

    Args:
      program: the program, made for the mesh of the slice.
      topology: the slice.
      cache: folder that stores costs by the hash of the lowered program, the slice, the compiler's version and its
        options; "" for no cache.

    Raises:
      DeviceMemoryError: if the program needs more memory than a device of the slice has.
      UnknownOptionError: if the compiler does not have one of the program's options.
    """
    lowered = program.lower()
    text = lowered.as_text()
    path = _cache_path(cache, text, topology, program.compiler_options) if cache else None
    if path and path.is_file():
        stored = json.loads(path.read_text())
        if "needed" in stored:
            raise DeviceMemoryError(**stored)
        return ProgramCost(**stored)
    start = time.perf_counter()
    try:
        cost = _cost(compile_within(lowered, None, program.compiler_options), topology, start, _digest(text))
    except DeviceMemoryError as error:
        _store(path, {"needed": error.needed, "available": error.available})
        raise
    _store(path, dataclasses.asdict(cost))
    return cost


def cost_with_known_options(
    program: Program, topology: Topology, cache: str = CACHE
) -> tuple[ProgramCost, Mapping[str, str]]:
    """Returns the cost of a program, compiled without the options that the compiler does not know, and the others.

    Raises:
      DeviceMemoryError: if the program needs more memory than a device of the slice has.
    """
    while True:
        try:
            return program_cost(program, topology, cache), program.compiler_options
        except UnknownOptionError as error:
            options = {name: value for name, value in program.compiler_options.items() if name != error.name}
            program = dataclasses.replace(program, compiler_options=options)


def _cache_path(cache: str, text: str, topology: Topology, options: Mapping[str, str]) -> Path:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "libtpu")]
    described = [f"{name}={value}" for name, value in sorted(options.items())]
    content = "\n".join([str(_FORMAT), topology.name, *versions, *described, text])
    return Path(cache).expanduser() / f"{_digest(content)}.json"


def _store(path: Path | None, values: Mapping[str, Any]) -> None:
    """Writes values as JSON, if there is a path. Other processes and threads never see an incomplete file."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        part.write_text(json.dumps(values, indent=1))
        part.replace(path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _cost(compiled: jax.stages.Compiled, topology: Topology, start: float, digest: str) -> ProgramCost:
    analysis: Any = compiled.cost_analysis()
    hlo = read_cost(compiled.as_text() or "")
    groups = collections.Counter(str(each.group_size or topology.devices) for each in hlo.all_reduces)
    return ProgramCost(
        hbm_bytes=program_bytes(compiled),
        flops=analysis["flops"],
        bytes_accessed=analysis["bytes accessed"],
        estimated_cycles=hlo.cycles,
        cycles_by_kind=hlo.by_kind,
        cycles_by_layer=hlo.by_layer,
        all_reduce_count=len(hlo.all_reduces),
        all_reduce_bytes=sum(each.bytes for each in hlo.all_reduces),
        all_reduce_groups=dict(groups),
        compile_seconds=round(time.perf_counter() - start, 1),
        waiting_bytes=sum(each.bytes for each in hlo.all_reduces if each.waits),
        digest=digest,
        dcn_transfers=len(hlo.sends),
        dcn_bytes=sum(hlo.sends),
    )
