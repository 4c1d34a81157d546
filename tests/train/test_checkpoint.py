"""Checkpoints: who may remove what."""

import time

import jax.numpy as jnp
import optax
import pytest
from etils import epath

from effnetv2_jax.train.checkpoint import Checkpoints
from effnetv2_jax.train.state import create_state


@pytest.fixture
def state():
    variables = {"params": {"kernel": jnp.arange(3.0)}, "batch_stats": {"mean": jnp.zeros(3)}}
    return create_state(variables, optax.sgd(0.1), averaged=True)


def gone(path, seconds):
    """Tells whether a path disappears in time: Orbax removes in the background."""
    deadline = time.monotonic() + seconds
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not path.exists()


def test_a_reader_leaves_what_a_run_is_just_writing_and_the_next_run_removes_what_one_left(tmp_path, state):
    folder = epath.Path(tmp_path)
    with Checkpoints(folder, keep=3) as checkpoints:
        checkpoints.save(1, state)
    written = folder / "2.orbax-checkpoint-tmp" / "state"  # as a save of Orbax looks until it is committed
    written.mkdir(parents=True)
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.steps == [1]
        checkpoints.restore(state)
        assert not gone(written, 1)
    with Checkpoints(folder, keep=3) as checkpoints:
        assert checkpoints.steps == [1]
        assert gone(written, 30)


def test_a_checkpoint_can_be_deleted_while_it_is_written(tmp_path, state):
    with Checkpoints(epath.Path(tmp_path), keep=3) as checkpoints:
        assert checkpoints.latest == 0
        for step in (1, 2):
            checkpoints.save(step, state)
            assert checkpoints.latest == step
        assert checkpoints.delete(2)
        assert not checkpoints.delete(2)
        assert checkpoints.steps == [checkpoints.latest] == [1]
    with Checkpoints(epath.Path(tmp_path)) as checkpoints:
        assert checkpoints.steps == [1]
