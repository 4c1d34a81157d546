"""The formats that a network is exported to."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from effnetv2_jax.export.program import Program
from effnetv2_jax.paths import in_bucket

FormatName = Literal["stablehlo", "savedmodel", "tflite", "onnx"]
ExportDtype = Literal["float32", "bfloat16", "int8"]

DTYPES: tuple[str, ...] = get_args(ExportDtype)
"""What a program can compute in; each format has some of them."""


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """A format.

    Attributes:
      name: its name, as the command line takes it.
      suffix: suffix of its files; "" for a folder.
      dtypes: the dtypes that it can compute in.
      packages: the packages that write and run it, besides JAX.
      module: the module of this package that writes and loads it; it is imported only if it is used.
    """

    name: FormatName
    suffix: str
    dtypes: tuple[ExportDtype, ...]
    packages: tuple[str, ...]
    module: str

    def implementation(self) -> Any:
        """Returns the module with the functions `write(network, path)` and `load(path)`.

        Raises:
          ModuleNotFoundError: if one of the packages is not installed.
        """
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(f"{self.name} needs the package {package}", name=package)
        return importlib.import_module(f"effnetv2_jax.export.files.{self.module}")

    def load(self, path: Path) -> Program:
        """Loads an exported program in the runtime of its format.

        Raises:
          ModuleNotFoundError: if the runtime is not installed.
          ValueError: if the file is no program of this format.
        """
        program: Program = self.implementation().load(path)
        return program

    def check_output(self, path: str | Path) -> Path:
        """Returns the path as one that this format can be written to.

        Raises:
          ValueError: if the path lies in a bucket or has another suffix than the format's.
          FileExistsError: if it exists.
        """
        if in_bucket(path):
            raise ValueError(f"{path}: an export is written to a local path, from which it can be copied to a bucket")
        output = Path(path)
        if self.suffix and output.suffix != self.suffix:
            raise ValueError(f"{output}: the format {self.name} is written to a {self.suffix} file")
        if output.exists():
            raise FileExistsError(f"{output} exists already; remove it or name another path")
        return output


_ROWS = (
    ExportFormat("stablehlo", ".stablehlo", ("float32", "bfloat16"), (), "stablehlo_file"),
    ExportFormat("savedmodel", "", ("float32",), ("tensorflow",), "saved_model"),
    ExportFormat("tflite", ".tflite", ("float32", "int8"), ("tensorflow", "ai_edge_litert"), "tflite_file"),
    ExportFormat("onnx", ".onnx", ("float32",), ("onnx", "onnxruntime"), "onnx_file"),
)

FORMATS: Mapping[str, ExportFormat] = MappingProxyType({row.name: row for row in _ROWS})


def format_named(name: str) -> ExportFormat:
    """Returns the format called `name`.

    Raises:
      ValueError: if there is no such format; the message lists the known ones.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown export format {name!r}; allowed: {', '.join(FORMATS)}")
    return FORMATS[name]


def format_of(path: Path) -> ExportFormat:
    """Returns the format of an exported file or folder, by its suffix.

    Raises:
      ValueError: if it has the suffix of no format.
      FileNotFoundError: if it does not exist.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        return FORMATS["savedmodel"]
    for known in _ROWS:
        if known.suffix and path.suffix == known.suffix:
            return known
    suffixes = ", ".join(known.suffix for known in _ROWS if known.suffix)
    raise ValueError(f"{path} is no exported network: those are folders, or end with {suffixes}")
