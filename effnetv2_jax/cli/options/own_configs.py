"""The project's own configs, which lie in `configs/`, and how a command line names a config."""

import difflib
from pathlib import Path


def own_configs() -> dict[str, Path]:
    """Returns the project's own configs: name, such as `imagenet1k` → file.

    A wheel holds them in the package, a clone beside it.
    """
    package = Path(__file__).parent.parent.parent
    folders = [folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()]
    return {file.stem: file for file in sorted(folders[0].glob("*.py"))} if folders else {}


def is_config(text: str) -> bool:
    """Returns whether a text, with or without an argument after a colon, names a config."""
    name = text.partition(":")[0]
    return name.endswith(".py") or name in own_configs()


def config_path(name: str) -> Path:
    """Returns the file of a config.

    A bare name, such as `imagenet1k`, means the project's own config, whatever files the current folder has. Anything
    else is a path. If there is no file at `configs/imagenet1k.py`, `configs/imagenet1k` or `imagenet1k.py`, these mean
    the project's own config as well.

    Raises:
      FileNotFoundError: if there is no such config; the message lists the project's own and a similar name.
    """
    path, own = Path(name), own_configs()
    if name not in own and path.is_file():
        return path
    short = path.name.removesuffix(".py")
    if short in own and path.parent in (Path(), Path("configs")):
        return own[short]
    raise FileNotFoundError(_not_found(name, own))


def _not_found(name: str, own: dict[str, Path]) -> str:
    """Returns an error message that proposes the most similar config."""
    files = [str(file) for file in Path(name).parent.glob("*.py")]
    near = [file for file in files if file == f"{name}.py"]
    near = near or difflib.get_close_matches(name, files, n=1)
    near = near or difflib.get_close_matches(Path(name).name.removesuffix(".py"), own, n=1)
    suggestion = f"; did you mean {near[0]}?" if near else ""
    return f"config {name!r} not found{suggestion} (the project's own configs: {', '.join(own)})"
