"""Options of the TPU compiler that `effnetv2 tune` tries, as rows of data."""

from __future__ import annotations

from typing import NamedTuple

_MAXTEXT = "MaxText, benchmarks/xla_flags_library.py"


class CompilerOption(NamedTuple):
    """An option of the TPU compiler. None of them changes the precision of an operation.

    Attributes:
      name: the option.
      values: values to try.
      meaning: what it does.
      source: where it comes from.
    """

    name: str
    values: tuple[str, ...]
    meaning: str
    source: str


COMPUTATION = (
    CompilerOption(
        "xla_tpu_scoped_vmem_limit_kib",
        ("32768", "65536", "98304"),
        "fast on-chip memory that one operation may use; more leaves less for the next one to be prefetched",
        _MAXTEXT,
    ),
    CompilerOption(
        "xla_tpu_enable_latency_hiding_scheduler", ("true",), "orders operations so that copies overlap work", _MAXTEXT
    ),
    CompilerOption(
        "xla_tpu_enable_multi_level_nested_loop_fusion", ("true",), "fuses operations of several loops", _MAXTEXT
    ),
    CompilerOption(
        "xla_tpu_enable_aggressive_loop_fusion_layout_opt", ("true",), "chooses layouts for larger fusions", _MAXTEXT
    ),
)
"""Options that change what a chip computes, the most promising first. Single rows of a network show what they save."""

COMMUNICATION = (
    CompilerOption(
        "xla_enable_async_all_reduce",
        ("true",),
        "starts an all-reduce early and waits for it late",
        _MAXTEXT,
    ),
    CompilerOption(
        "xla_tpu_enable_async_collective_fusion", ("true",), "fuses all-reduces with work that hides them", _MAXTEXT
    ),
    CompilerOption(
        "xla_tpu_enable_async_collective_fusion_fuse_all_reduce", ("true",), "the same for sums of gradients", _MAXTEXT
    ),
    CompilerOption(
        "xla_tpu_enable_async_collective_fusion_multiple_steps", ("true",), "the same over several operations", _MAXTEXT
    ),
    CompilerOption(
        "xla_tpu_overlap_compute_collective_tc", ("true",), "computes while the chips exchange sums", _MAXTEXT
    ),
    CompilerOption(
        "xla_tpu_enable_data_parallel_all_reduce_opt", ("true",), "moves sums of gradients out of loops", _MAXTEXT
    ),
    CompilerOption(
        "xla_tpu_data_parallel_opt_different_sized_ops", ("true",), "the same for sums of different sizes", _MAXTEXT
    ),
)
"""Options that change how chips exchange sums. Cycles do not show that, so all of them are tried together, and kept if
the compiled program waits for fewer bytes of all-reduces and takes no more cycles."""

OPTIONS = COMPUTATION + COMMUNICATION
