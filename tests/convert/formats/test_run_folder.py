"""A run folder, written as the trainer writes it."""

import json
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from golden import reference

from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.train.checkpoint.orbax_folder import write


def state(variables, factor):
    raw = jax.tree.map(lambda leaf: np.asarray(leaf * factor), variables)
    averaged = jax.tree.map(lambda leaf: leaf * 0.5, raw)
    return {
        "step": np.array(3, np.int32),
        "params": raw["params"],
        "batch_stats": raw["batch_stats"],
        "opt_state": [{"count": np.array(3, np.int32)}, None],
        "ema_params": averaged["params"],
        "ema_batch_stats": averaged["batch_stats"],
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny):
    """A run with the steps 9 and 10; their weights are 1 and 2 times the tiny ones."""
    folder = tmp_path_factory.mktemp("run")
    for step, factor in ((9, 1.0), (10, 2.0)):
        write(epath.Path(folder / "checkpoints" / str(step)), step, state(tiny, factor))
    provenance = Provenance(
        reference.TINY, 10, "same", 1e-3, preprocessing="v2", eval_size=64, class_names=tuple("abcdefghij")
    )
    (folder / "model.json").write_text(json.dumps(provenance.to_metadata()))
    return folder


@pytest.mark.parametrize(
    ("where", "moving_average", "factor"),
    [
        ("", True, 1.0),
        ("", False, 2.0),
        ("checkpoints", True, 1.0),
        ("checkpoints/9", False, 1.0),
        ("checkpoints/9", True, 0.5),
    ],
)
def test_the_newest_or_the_given_step_is_read(run, tiny, where, moving_average, factor):
    weights = load_weights(run / where, reference.TINY, moving_average=moving_average)
    assert reference.equal(weights.variables, jax.tree.map(lambda leaf: leaf * np.float32(factor), tiny))
    assert weights.provenance.averaging == ("averaged" if moving_average else "raw")


def test_a_path_may_be_relative(run, tiny, monkeypatch):
    monkeypatch.chdir(run.parent)
    weights = load_weights(run.name, reference.TINY)
    assert reference.equal(weights.variables, tiny)


def test_a_run_records_its_provenance(run):
    provenance = load_weights(run).provenance
    assert (provenance.spec, provenance.preprocessing, provenance.eval_size) == (reference.TINY, "v2", 64)
    assert provenance.class_names == tuple("abcdefghij")


def test_a_run_without_averages_gives_its_raw_weights(tmp_path, tiny):
    kept = state(tiny, 1.0) | {"ema_params": None, "ema_batch_stats": None}
    write(epath.Path(tmp_path / "checkpoints" / "1"), 1, kept)
    weights = load_weights(tmp_path, reference.TINY)
    assert reference.equal(weights.variables, tiny)
    assert weights.provenance.averaging == "raw"
    with pytest.raises(ValueError, match="does not record its variant"):
        load_weights(tmp_path)


def test_a_damaged_checkpoint_is_refused(tmp_path, run):
    shutil.copytree(run, tmp_path / "run")
    for file in (tmp_path / "run/checkpoints/10/state").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"is damaged or not a checkpoint of a run: .*; older checkpoints: .*/9$"):
        load_weights(tmp_path / "run")


@pytest.mark.parametrize("card", ["{", "[]", '{"variant": 3}'])
def test_a_damaged_card_is_refused(tmp_path, run, card):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/model.json").write_text(card)
    with pytest.raises(ValueError, match=r"model\.json"):
        load_weights(tmp_path / "run")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere", "does not exist"),
        ("empty", r"empty contains no weights; looked for model\.safetensors, a TensorFlow .*, a training run"),
        ("files", r"files contains no weights; .*; give the path of a file in it, such as a\.pth"),
        ("stopped", "stopped contains no checkpoint of a run"),  # a run that has saved nothing yet
    ],
)
def test_a_folder_without_weights_is_refused_with_what_was_looked_for(tmp_path, where, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "files" / "0").mkdir(parents=True)
    (tmp_path / "files" / "a.pth").touch()
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "model.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=message):
        load_weights(tmp_path / where, reference.TINY)
