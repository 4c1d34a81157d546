"""The structure of the package: imports run downwards and have no cycles."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "effnetv2_jax"

TRAIN = {"train.recipe", "train.devices", "train.checkpoint", "train.run", "train.run_folder", "train.report"}
# Package → the packages and modules that it may import besides itself. Imports for type checking count.
ALLOWED = {
    "": set(),
    "model": set(),
    "data": {"data.sources", "data.augment", "data.images", "data.memory"},
    "data.sources": {"data.config", "data.cpu_tensorflow"},
    "data.augment": {"data.config", "data.cpu_tensorflow"},
    "data.images": {"data.augment", "data.cpu_tensorflow"},
    "data.memory": {"data.config", "data.sources", "data.stream"},
    "train.recipe": {"model", "data.images.families"},
    "train.devices": {"model"},
    "train.checkpoint": {"model"},
    "train.run": {"model", "train.recipe", "train.checkpoint"},
    "train.run_folder": {"model", "train.checkpoint", "train.run.processes"},
    "train.report": {"model", "data", "train.recipe", "train.devices", "train.run", "train.run_folder"},
    "train": {"model", "data"} | TRAIN,
    "pretrained": {"model"},
    "convert.formats": {"model", "train.checkpoint"},
    "convert.frameworks": {"model", "data.images.families", "convert.tensors"},
    "convert": {"model", "data.images.families", "pretrained", "convert.formats", "convert.frameworks"},
    "predict": {"model", "data.images.families", "data.images.image_header", "convert"},
    "export.files": {"model", "data", "convert", "export.operations", "export.program", "export.served_network"},
    "export": {"model", "data", "convert", "predict.images", "predict.labels"},
    "evaluate.images": {"model", "data", "train", "convert", "predict"},
    "evaluate": {"model", "data", "train", "convert", "predict", "evaluate.images"},
    "evaluate.report": {"model", "data", "train", "predict", "evaluate"},
    "analysis": {"model", "data", "train"},
    "analysis.tuning": {"model", "train", "analysis"},
    "analysis.benchmarks": {"model", "data", "train", "analysis"},
    "search": {"model", "data", "train", "analysis"},
    "ablation": {"model", "train", "analysis"},
    "cli.terminal": set(),
    "cli.options": {"model", "data", "train", "convert", "predict.labels", "evaluate", "cli.terminal"},
    "cli.tables": {"model", "pretrained", "train", "predict.labels", "evaluate", "analysis", "search", "ablation"},
    "cli": {"model", "data", "train", "pretrained", "convert", "predict", "export", "evaluate", "analysis"}
    | {"cli.options", "cli.tables", "cli.terminal"},
    "cli.commands": {
        *("model", "data", "train", "pretrained", "convert", "predict", "export", "evaluate", "analysis", "search"),
        *("ablation", "cli"),
    },
}


def module_name(path: Path) -> str:
    """Returns the name of a module within the package, such as `train.recipe.step`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


ROOT_MODULES = {module_name(path) for path in PACKAGE.glob("*.py")}  # they import nothing of the package
MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py") if path.stem not in ("__init__", "__main__")}


def package_of(module: str) -> str:
    return module.rpartition(".")[0]


def imports(path: Path) -> set[str]:
    """Returns every name that a file imports, including imports inside functions and for type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def imported_modules(path: Path) -> set[str]:
    return {name.removeprefix("effnetv2_jax.") for name in imports(path)} & MODULES.keys()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_downwards(module):
    package = package_of(module)
    for other in imported_modules(MODULES[module]):
        within = package_of(other) == package or other in ROOT_MODULES
        assert within or any(f"{other}.".startswith(f"{allowed}.") for allowed in ALLOWED[package]), other


def test_imports_have_no_cycles():
    graph = {module: imported_modules(path) - {module} for module, path in MODULES.items()}
    assert cycle(graph) == ()


def cycle(graph: dict[str, set[str]]) -> tuple[str, ...]:
    """Returns the modules of a cycle of imports, or () if there is none."""
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> tuple[str, ...]:
        if name in trail:
            return (*trail[trail.index(name) :], name)
        if name not in done:
            for other in sorted(graph[name]):
                if found := visit(other, (*trail, name)):
                    return found
            done.add(name)
        return ()

    return next((found for name in sorted(graph) if (found := visit(name, ()))), ())


def test_a_cycle_is_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ("b", "c", "b")


def test_files_have_specific_names_and_docstrings():
    for path in PACKAGE.rglob("*.py"):
        assert path.stem not in ("utils", "util", "common", "helpers", "misc"), path
        assert path.read_text() == "" or ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("orbax", {"train.checkpoint.orbax_folder"}),
        ("torch", {"convert.formats.pth_file"}),
        ("huggingface_hub", {"pretrained.hub", "data.sources.storage"}),
        ("h5py", {"convert.formats.h5_reader"}),
        ("array_record", {"data.sources.record_format"}),
        ("optuna", {"search.proposals"}),
        ("google_crc32c", {"masked_checksum", "pretrained.checksum"}),
    ],
)
def test_a_library_is_imported_only_where_it_belongs(library, allowed):
    users = {
        name for name, path in MODULES.items() if any(f"{used}.".startswith(f"{library}.") for used in imports(path))
    }
    assert users == allowed


@pytest.mark.parametrize(
    "packages",
    [
        [
            "effnetv2_jax",
            "effnetv2_jax.cli.main",
            *(f"effnetv2_jax.cli.commands.{n}" for n in ("info", "convert", "predict", "export")),
        ],
        [
            f"effnetv2_jax.{name}"
            for name in MODULES
            if name.startswith(("train.recipe.", "convert.", "model.", "predict."))
        ],
    ],
    ids=["the core", "the recipe, the model, conversion and prediction"],
)
def test_packages_import_neither_tensorflow_nor_torch(packages):
    code = (
        f"import sys, {', '.join(packages)}; "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
