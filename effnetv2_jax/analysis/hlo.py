"""Reads the compiler's cost estimates from the HLO text of a compiled TPU program.

The optimised HLO has `"estimated_cycles"` in the `backend_config` of each instruction that the compiler has scheduled,
and the name of the layer in its metadata. JAX's `cost_analysis()` of the same program gives no times.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_HEADER = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (.*?)\s([a-z][a-z0-9\-]*)\((.*)$")
_ARRAY = re.compile(r"\b(pred|[suf]\d+|bf16|f8\w+)\[([\d,]*)\]")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(r"(?:calls|to_apply|body)=%([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=(%[\w.\-]+))")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_GROUP_LIST = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_GROUP_IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=")
_GROUP_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}")
_BETWEEN_SLICES = "xla_megascale_runtime"
_LAYER = re.compile(r"EfficientNetV2\)*/([\w.]+(?:/[\w.]+(?=/))?)")

# Opcode → kind of operation. A fusion has the kind of the first of these opcodes that it contains.
_KINDS = (
    ("convolution", "convolution"),
    ("dot", "convolution"),
    ("reduce", "reduction"),
    ("reduce-window", "reduction"),
    ("scatter", "gather and scatter"),
    ("gather", "gather and scatter"),
    ("rng-bit-generator", "random numbers"),
)
_BARE_KINDS: Mapping[str, str] = {
    "copy": "copies",
    "transpose": "copies",
    "all-reduce": "all-reduce",
    "all-reduce-start": "all-reduce",
    **dict(_KINDS),
}
_OTHER = "element by element"
KINDS = (*dict.fromkeys(_BARE_KINDS.values()), _OTHER)


@dataclasses.dataclass(frozen=True)
class AllReduce:
    """A collective sum.

    Attributes:
      bytes: size of the result on one device.
      group_size: number of devices that sum together; 0 means all devices.
      waits: whether the devices compute nothing meanwhile; False if the sum is started and waited for later.
    """

    bytes: int
    group_size: int
    waits: bool = True


@dataclasses.dataclass(frozen=True)
class HloCost:
    """The estimated cost of one call of a program on one device.

    Attributes:
      cycles: the compiler's estimate; it excludes communication and asynchronous copies.
      by_kind: cycles by kind of operation.
      by_layer: cycles by layer; " (gradient)" after the name marks the backward pass of a layer.
      all_reduces: every all-reduce of the call; one in a loop appears once for each iteration.
      sends: bytes of each message to another slice, counted in the same way. XLA sums over slices by a reduce-scatter
        within each slice, a message between slices and an all-gather within each slice.
    """

    cycles: int
    by_kind: Mapping[str, int]
    by_layer: Mapping[str, int]
    all_reduces: tuple[AllReduce, ...]
    sends: tuple[int, ...] = ()


def read_cost(text: str) -> HloCost:
    """Returns the cost of an optimised HLO module: its entry computation and the computations that this calls.

    Raises:
      ValueError: if the text has no entry computation.
    """
    computations, entry = _parse(text)
    by_kind: collections.Counter[str] = collections.Counter()
    by_layer: collections.Counter[str] = collections.Counter()
    all_reduces: list[AllReduce] = []
    sends: list[int] = []
    for instruction, times in _executed(computations, entry, 1):
        if instruction.cycles:
            by_kind[_kind(computations, instruction)] += times * instruction.cycles
            by_layer[_layer(instruction.op_name)] += times * instruction.cycles
        if instruction.opcode in ("all-reduce", "all-reduce-start"):
            waits = instruction.opcode == "all-reduce"
            all_reduces += [AllReduce(_bytes(instruction.shape), _group_size(instruction.rest), waits)] * times
        if instruction.opcode == "send" and _BETWEEN_SLICES in instruction.rest:
            sends += [_bytes(instruction.shape.replace("u32[]", ""))] * times  # u32[] is a context, not data
    return HloCost(sum(by_kind.values()), dict(by_kind), dict(by_layer), tuple(all_reduces), tuple(sends))


@dataclasses.dataclass(frozen=True)
class _Instruction:
    shape: str
    opcode: str
    rest: str

    @property
    def cycles(self) -> int:
        match = _CYCLES.search(self.rest)
        return int(match[1]) if match else 0

    @property
    def op_name(self) -> str:
        match = _OP_NAME.search(self.rest)
        return match[1] if match else ""


_Computations = Mapping[str, list[_Instruction]]


def _parse(text: str) -> tuple[_Computations, str]:
    computations: dict[str, list[_Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current.append(_Instruction(found[2], found[3], found[4]))
    if not entry:
        raise ValueError("the program's text has no entry computation")
    return computations, entry


def _executed(computations: _Computations, name: str, times: int) -> Iterator[tuple[_Instruction, int]]:
    """Yields each instruction that runs and the number of times it runs.

    The body of a loop runs as often as its trip count, and only the first branch of a conditional runs.
    """
    for instruction in computations.get(name, ()):
        yield instruction, times
        if instruction.opcode in ("while", "call", "async-start"):
            trips = _TRIPS.search(instruction.rest)
            for called in _CALLED.findall(instruction.rest):
                yield from _executed(computations, called, times * (int(trips[1]) if trips else 1))
        elif instruction.opcode == "conditional":
            branch = _BRANCHES.search(instruction.rest)
            if branch:
                first = (branch[1] or branch[2]).split(",")[0].strip().lstrip("%")
                yield from _executed(computations, first, times)


def _kind(computations: _Computations, instruction: _Instruction) -> str:
    if instruction.opcode != "fusion":
        return _BARE_KINDS.get(instruction.opcode, _OTHER)
    called = _CALLED.search(instruction.rest)
    inside = _opcodes(computations, called[1]) if called else frozenset()
    return next((kind for opcode, kind in _KINDS if opcode in inside), _OTHER)


def _opcodes(computations: _Computations, name: str) -> frozenset[str]:
    found: set[str] = set()
    for instruction in computations.get(name, ()):
        found.add(instruction.opcode)
        if instruction.opcode == "fusion" and (called := _CALLED.search(instruction.rest)):
            found |= _opcodes(computations, called[1])
    return frozenset(found)


def _layer(op_name: str) -> str:
    match = _LAYER.search(op_name)
    if not match:
        return "loss, optimiser and averages"
    return match[1] + (" (gradient)" if "transpose(" in op_name else "")


def _bytes(shape: str) -> int:
    return sum(
        math.ceil(_bits(dtype) / 8 * math.prod(int(side) for side in sides.split(",") if side))
        for dtype, sides in _ARRAY.findall(shape)
    )


def _bits(dtype: str) -> int:
    return 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])


def _group_size(rest: str) -> int:
    if match := _GROUP_LIST.search(rest):
        return len(match[1].split(","))
    if match := _GROUP_IOTA.search(rest):
        return int(match[2])
    if match := _GROUP_MESH.search(rest):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", match[1])}
        summed = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", match[2])
        return math.prod(int(part) if part else sizes[name] for name, part in summed)
    return 0
