"""Weights in a bucket, in every format."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from fake_bucket import use_as_bucket
from golden import reference

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.weights import default_provenance, load_weights, save_variables
from effnetv2_jax.train.checkpoint import checkpoints, orbax_folder

B0 = VARIANTS["efficientnetv2-b0"]


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """The folder of `gs://bucket`; all copies of its files must be removed in the end."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    yield use_as_bucket(tmp_path / "bucket", monkeypatch)
    assert list((tmp_path / "temporary").iterdir()) == []


def official(moving_average=True):
    return reference.official_variables(reference.TINY, 10, moving_average=moving_average)


def test_a_remote_safetensors_file_is_read(bucket, tiny):
    save_variables(bucket / "w.safetensors", tiny, reference.TINY, target="timm")
    weights = load_weights("gs://bucket/w.safetensors")
    assert reference.equal(weights.variables, tiny)
    assert weights.provenance.read_from == "timm:w.safetensors"
    local = load_weights(bucket / "w.safetensors")
    assert weights.provenance == local.provenance


def test_a_remote_pth_file_is_read(bucket):
    torch = pytest.importorskip("torch", minversion="2.6")
    shapes = reference.framework_shapes("timm", reference.TINY, 10)
    state = {name: torch.from_numpy(reference.torch_value(name, shape)) for name, shape in shapes.items()}
    torch.save(state, bucket / "w.pth")
    weights = load_weights("gs://bucket/w.pth", reference.TINY)
    assert reference.equal(weights.variables, reference.torch_variables("timm", reference.TINY, 10))
    assert weights.provenance.read_from == "timm:w.pth"


def test_a_remote_hugging_face_folder_is_read(bucket):
    variables = reference.official_variables(B0, 3)
    save_variables(bucket / "model", variables, B0, target="timm")
    weights = load_weights("gs://bucket/model")
    assert reference.equal(weights.variables, variables)
    assert weights.provenance.read_from == "timm:model"


def test_a_remote_official_archive_is_read(bucket):
    with tarfile.open(bucket / "efficientnetv2-tiny.tgz", "w:gz") as archive:
        archive.add(reference.TINY_CHECKPOINT, "efficientnetv2-tiny")
    weights = load_weights("gs://bucket/efficientnetv2-tiny.tgz", reference.TINY)
    assert reference.equal(weights.variables, official())
    assert weights.provenance.read_from == "official:efficientnetv2-tiny.tgz"


@pytest.mark.parametrize("name", ["c", "c/model.ckpt-0", "c/model.ckpt-0.index"])
def test_a_remote_tensorflow_checkpoint_is_read(bucket, name):
    shutil.copytree(reference.TINY_CHECKPOINT, bucket / "c")
    (bucket / "c" / "events.out").write_text("not needed")
    weights = load_weights(f"gs://bucket/{name}", reference.TINY, moving_average=False)
    assert reference.equal(weights.variables, official(moving_average=False))
    assert weights.provenance == load_weights(bucket / name, reference.TINY, moving_average=False).provenance


def test_a_remote_run_folder_is_read_in_place(bucket, tiny, monkeypatch):
    """Orbax has file functions of its own for buckets, so it gets the local path."""
    state = {"params": tiny["params"], "batch_stats": tiny["batch_stats"], "step": np.array(3, np.int32)}
    orbax_folder.write(epath.Path(bucket / "run/checkpoints/3"), 3, state)
    (bucket / "run/checkpoints/3/commit_success.txt").touch()  # it would be there if Orbax had written to a bucket
    (bucket / "run/model.json").write_text(json.dumps(default_provenance(tiny, reference.TINY).to_metadata()))
    read = []

    def local(function):
        def call(path, *arguments):
            read.append(str(path))
            return function(epath.Path(str(path).replace("gs://bucket", str(bucket))), *arguments)

        return call

    for name in ("read_record", "read_arrays"):
        monkeypatch.setattr(checkpoints, name, local(getattr(orbax_folder, name)))
    weights = load_weights("gs://bucket/run")
    assert set(read) == {"gs://bucket/run/checkpoints/3"}
    assert reference.equal(weights.variables, tiny)
    assert weights.provenance.read_from == "flax:run"


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.tgz", "run", "c/model.ckpt-0"])
def test_a_missing_remote_file_is_refused(name):
    with pytest.raises(FileNotFoundError, match=f"gs://bucket/{name} does not exist"):
        load_weights(f"gs://bucket/{name}")


def test_a_damaged_file_is_reported_by_its_remote_name(bucket):
    (bucket / "w.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"gs://bucket/w\.safetensors"):
        load_weights("gs://bucket/w.safetensors", reference.TINY)
