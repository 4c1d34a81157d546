"""The house: imports run downwards only, without circles, and every file has a name of its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "effnetv2_jax"

# Package → the packages of ours that it may import.
ALLOWED = {
    "model": set(),
    "data": set(),
    "train": {"model", "data"},
    "convert": {"model", "data"},
    "predict": {"model", "data", "convert"},
    "analysis": {"model", "data", "train"},
    "cli": {"model", "data", "train", "convert", "predict", "analysis"},
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path, *, everywhere: bool) -> set[str]:
    """Our modules that a file imports: also inside functions and for type checkers, or only when it is loaded."""
    names = {module_name(module) for module in PACKAGE.rglob("*.py")}
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found & names


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_run_downwards(path):
    package = path.relative_to(PACKAGE).parts[0]
    for name in imported_modules(path, everywhere=True):
        other = name.split(".")[1] if "." in name else ""
        assert not other or other == package or other in ALLOWED[package], f"{module_name(path)} imports {name}"


def test_there_are_no_circles():
    graph = {module_name(path): imported_modules(path, everywhere=False) for path in PACKAGE.rglob("*.py")}
    packages = {module_name(path) for path in PACKAGE.rglob("__init__.py")}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' → '.join([*trail, name])}"
        if name not in done:
            for other in graph[name] - packages - {name}:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph.keys() - packages:
        visit(name, ())


def test_every_file_is_one_noun():
    for path in PACKAGE.rglob("*.py"):
        assert path.stem not in ("utils", "util", "common", "helpers", "misc"), path
        assert path.read_text() == "" or ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_the_core_imports_neither_tensorflow_nor_torch():
    import subprocess
    import sys

    modules = ["effnetv2_jax", "effnetv2_jax.cli.main"]
    modules += [f"effnetv2_jax.cli.commands.{name}" for name in ("info", "convert", "predict")]
    code = (
        f"import sys, {', '.join(modules)}; "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
