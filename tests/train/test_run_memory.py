"""The check of a run's host memory before its first step."""

import jax
import pytest
from train.smoke import smoke_config

from effnetv2_jax.data.memory import host_memory
from effnetv2_jax.data.pipeline import eval_batches, train_batches
from effnetv2_jax.train.checkpoint.storage import state_bytes
from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.run_memory import check_run_memory
from effnetv2_jax.train.trainer import train


def checked(config):
    return check_run_memory(make_experiment(config, jax.device_count())).parts


def test_a_run_that_does_not_fit_is_refused_before_anything_is_compiled_or_written(tmp_path, monkeypatch):
    monkeypatch.setattr("effnetv2_jax.train.trainer.compiling", lambda *_: pytest.fail("something was compiled"))
    with pytest.raises(
        ValueError, match=r"stage 2 \(24 px\) needs .*, evaluation \(24 px\) needs .* raise data.memory_gb"
    ):
        train(smoke_config("--config.data.memory_gb=0.0001"), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_memory_that_became_scarce_during_a_run_does_not_stop_it(monkeypatch):
    monkeypatch.setattr(host_memory, "available_bytes", lambda: pytest.fail("memory was measured again"))
    data = smoke_config().data
    assert next(train_batches(data, image_size=8, magnitude=0.0, batch_size=4, start_step=0, seed=0))
    assert next(eval_batches(data, image_size=8, batch_size=4))


def test_the_state_is_counted_once_more_for_its_checkpoint():
    experiment = make_experiment(smoke_config(), jax.device_count())
    leaves = jax.tree.leaves(experiment.abstract_state())
    assert state_bytes(experiment.abstract_state()) == sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) > 100_000
    assert check_run_memory(experiment).parts["a copy of the state"] == state_bytes(experiment.abstract_state())
    assert "a copy of the state" not in check_run_memory(experiment, reserved={"a cache": 5}).parts


def test_a_host_counts_its_own_parts_and_its_share_of_the_batches(monkeypatch):
    parts = smoke_config("--config.data.parts=4")
    alone = checked(parts)
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    monkeypatch.setattr(jax, "process_index", lambda: 3)
    shared = checked(parts)
    assert shared["all encoded images"] == pytest.approx(alone["all encoded images"] / 4, rel=0.01)
    assert shared["batches of stage 2 (24 px)"] < alone["batches of stage 2 (24 px)"]


def test_the_batches_on_their_way_to_the_devices_are_counted():
    assert host_memory.HELD_BY_CALLER > sharding.AHEAD
