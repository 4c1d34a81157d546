"""Checkpoints: saving, deleting, cleaning up and reading weights."""

import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from effnetv2_jax.train.recipe.state import create_state
from effnetv2_jax.train.run.checkpoint import Checkpoints


@pytest.fixture
def state():
    variables = {"params": {"kernel": jnp.arange(3.0)}, "batch_stats": {"mean": jnp.zeros(3)}}
    return create_state(variables, optax.sgd(0.1), averaged=True)


def gone(path, seconds):
    """Returns whether a path disappears within some seconds, because Orbax removes files in the background."""
    deadline = time.monotonic() + seconds
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not path.exists()


def test_unfinished_checkpoints_are_kept_by_readers_and_removed_by_the_next_run(tmp_path, state):
    folder = epath.Path(tmp_path)
    with Checkpoints(folder, keep=3) as checkpoints:
        checkpoints.save(1, state)
    written = folder / "2.orbax-checkpoint-tmp" / "state"  # what Orbax writes before it commits a save
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


@pytest.mark.parametrize("averaged", [True, False])
def test_weights_are_read_without_the_optimiser(tmp_path, averaged):
    variables = {"params": {"kernel": jnp.arange(3.0)}, "batch_stats": {"mean": jnp.zeros(3)}}
    state = create_state(variables, optax.adam(0.1), averaged=averaged)
    with Checkpoints(epath.Path(tmp_path), keep=1) as checkpoints:
        checkpoints.save(7, state)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), jax.tree.map(jnp.asarray, variables)
    )
    with Checkpoints(epath.Path(tmp_path)) as checkpoints:
        restored = checkpoints.restore_weights(shapes)
        with pytest.raises(FileNotFoundError, match=r"step 6 .*steps: 7"):
            checkpoints.restore_weights(shapes, 6)
    assert restored.keys() == ({"raw", "averaged"} if averaged else {"raw"})
    for name, weights in restored.items():
        assert weights.keys() == {"params", "batch_stats"}
        np.testing.assert_array_equal(weights["params"]["kernel"], state.weights[name]["params"]["kernel"])


@pytest.mark.parametrize("other", [{"kernel": (4,)}, {}, {"kernel": (3,), "bias": (3,)}])
def test_weights_of_another_network_are_refused_by_name(tmp_path, state, other):
    """The other network has another shape, one layer less, or one layer more."""
    with Checkpoints(epath.Path(tmp_path), keep=1) as checkpoints:
        checkpoints.save(1, state)
    shapes = {
        "params": {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in other.items()},
        "batch_stats": {"mean": jax.ShapeDtypeStruct((3,), jnp.float32)},
    }
    with (
        Checkpoints(epath.Path(tmp_path)) as checkpoints,
        pytest.raises(ValueError, match=r"\['ema_params'\]\['(kernel|bias)'\]"),
    ):
        checkpoints.restore_weights(shapes)


def test_a_save_that_fails_is_reported_once_with_its_step(tmp_path, state):
    folder = tmp_path / "checkpoints"

    def save_into_a_folder_that_disappears():
        with Checkpoints(epath.Path(folder), keep=3) as checkpoints:
            checkpoints.save(1, state)
            checkpoints.wait()
            shutil.rmtree(folder)
            folder.write_text("a file in place of the folder")
            checkpoints.save(2, state)

    with pytest.raises(OSError, match=r"the checkpoint of step 2 could not be saved: .*Not a directory"):
        save_into_a_folder_that_disappears()
