"""Random weights in the files, names and layouts in which others publish them, served by a server on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.numpy
from flax import traverse_util
from weight_server import WeightServer

from effnetv2_jax import VARIANTS, create_model, init_variables
from effnetv2_jax.convert.frameworks.table import FRAMEWORKS
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.pretrained import table
from effnetv2_jax.pretrained.hub_address import hub_address, in_hub
from effnetv2_jax.pretrained.published_weights import PublishedWeights


@functools.cache
def variables(variant: str) -> Any:
    """Returns the random variables that every file of a variant has."""
    return init_variables(create_model(VARIANTS[variant]), seed=3)


def _tensors(row: PublishedWeights) -> dict[str, np.ndarray]:
    framework = FRAMEWORKS[row.framework]
    flat = traverse_util.flatten_dict(variables(row.variant), sep="/")
    tensors = network_tensors(VARIANTS[row.variant], 1000)
    return {framework.name_of(t): framework.layout_of(t).from_flax(np.asarray(flat[t.path])) for t in tensors}


def _timm(row: PublishedWeights) -> bytes:
    return safetensors.numpy.save(_tensors(row))


def _timm_config(row: PublishedWeights) -> dict[str, Any]:
    """Returns the keys of timm's `config.json` that say something of the weights."""
    evaluation = {"input_size": [3, 192, 192], "test_input_size": [3, 224, 224], "crop_pct": 0.875}
    evaluation |= {"mean": [0.485, 0.456, 0.406], "crop_mode": "center"}
    architecture = hub_address(row.address).repository.partition("/")[2].partition(".")[0]
    return {"architecture": architecture, "num_classes": row.num_classes, "pretrained_cfg": evaluation}


def _torchvision(row: PublishedWeights) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(value) for name, value in _tensors(row).items()}, buffer)
    return buffer.getvalue()


def _keras(row: PublishedWeights) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, value in _tensors(row).items():
            layer, _, weight = name.partition("/")
            depthwise = "depthwise_" if layer.endswith("dwconv2") else ""
            file[f"{layer}/{layer}/{depthwise}{weight}:0"] = value
    return buffer.getvalue()


def _official(row: PublishedWeights) -> bytes:
    """Writes averaged and raw weights, of which the raw ones are wrong, with TensorFlow itself."""
    import tensorflow as tf

    values = {}
    for name, value in _tensors(row).items():
        values[f"{row.variant}/{name}"] = np.zeros_like(value)
        values[f"{row.variant}/{name}/ExponentialMovingAverage"] = value
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        tf.raw_ops.SaveV2(
            prefix=f"{folder}/model",
            tensor_names=list(values),
            shape_and_slices=[""] * len(values),
            tensors=list(values.values()),
        )
        for file in sorted(Path(folder).iterdir()):
            archive.add(file, f"{row.variant}/{file.name}")
    return buffer.getvalue()


_WRITERS = {"timm": _timm, "torchvision": _torchvision, "keras": _keras, "official": _official}


@functools.cache
def _content(row: PublishedWeights) -> bytes:
    return _WRITERS[row.framework](row)


def publish(server: WeightServer, monkeypatch: Any, name: str, framework: str) -> PublishedWeights:
    """Serves a file of the weights of a name, and returns its row with the server's address and the right checksum."""
    row = table.find_pretrained(name, framework)
    content = _content(dataclasses.replace(row))
    if in_hub(row.address):
        server.repositories[hub_address(row.address).repository] = {
            "model.safetensors": content,
            "config.json": json.dumps(_timm_config(row)).encode(),
        }
        return row
    kind = row.checksum.partition(":")[0]
    checksum = f"{kind}:{hashlib.new(kind, content).hexdigest()[: len(row.checksum) - len(kind) - 1]}" if kind else ""
    address = server.serve(row.file, content, like_google="storage.googleapis" in row.address)
    served = dataclasses.replace(row, address=address, checksum=checksum)
    with contextlib.suppress(ValueError):
        rows = list(table.TABLE)
        rows[rows.index(row)] = served
        monkeypatch.setattr(table, "TABLE", tuple(rows))
    return served
