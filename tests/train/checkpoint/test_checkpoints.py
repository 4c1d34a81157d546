"""Checkpoints: that what is read is what was saved, and what is noticed if it is not."""

import json
import re
import shutil

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from hypothesis import strategies

from effnetv2_jax.train.checkpoint.arrays import digest, named_leaves, snapshot, whole_digest
from effnetv2_jax.train.checkpoint.checkpoints import Checkpoints, find_checkpoints
from effnetv2_jax.train.checkpoint.orbax_folder import DamagedCheckpointError, write
from effnetv2_jax.train.recipe.state import create_state

VARIABLES = {"params": {"dense": {"kernel": np.arange(3000, dtype=np.float32).reshape(60, 50)}}, "batch_stats": {}}
VARIABLES["batch_stats"]["dense"] = {"mean": np.zeros(3, np.float32)}


def make_state(step, optimizer=None, averaged=True):
    state = create_state(VARIABLES, optimizer or optax.sgd(0.1, momentum=0.9), averaged=averaged)
    return jax.tree.map(np.asarray, state.replace(step=np.array(step, np.int32)))


def make_checkpoints(folder, *steps, **options):
    for step in steps:
        write(epath.Path(folder) / str(step), step, make_state(step, **options))
    return Checkpoints(epath.Path(folder))


def abstract(**options):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), make_state(0, **options))


def assert_equal(tree, other):
    got, expected = named_leaves(tree), named_leaves(other)
    assert list(got) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, name)


@pytest.mark.parametrize("averaged", [True, False])
@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1),
        optax.rmsprop(optax.constant_schedule(0.1), momentum=0.9),
        optax.partition({"a": optax.adamw(0.1)}, {"dense": {"kernel": "a"}}),
    ],
)
def test_a_state_is_read_as_it_was_saved(tmp_path, averaged, optimizer):
    options = {"optimizer": optimizer, "averaged": averaged}
    checkpoints = make_checkpoints(tmp_path, 7, **options)
    restored = checkpoints.restore(abstract(**options))
    assert jax.tree.structure(restored) == jax.tree.structure(abstract(**options))
    assert_equal(restored, make_state(7, **options))
    weights = checkpoints.read().weights(VARIABLES)
    assert weights.keys() == ({"raw", "averaged"} if averaged else {"raw"})
    for tree in weights.values():
        assert_equal(tree, VARIABLES)
    was_averaged, arrays = checkpoints.read_weights(7, moving_average=True)
    assert was_averaged == averaged
    assert_equal(
        arrays, {"params/dense/kernel": VARIABLES["params"]["dense"]["kernel"], "batch_stats/dense/mean": np.zeros(3)}
    )


def test_steps_are_found_and_a_missing_one_is_named_with_those_there_are(tmp_path):
    checkpoints = make_checkpoints(tmp_path / "checkpoints", 9, 10)
    (tmp_path / "checkpoints" / "11.orbax-checkpoint-tmp").mkdir()
    assert checkpoints.steps == [9, 10]
    assert find_checkpoints(tmp_path)[1] is None
    assert find_checkpoints(tmp_path / "checkpoints" / "9")[1] == 9
    with pytest.raises(FileNotFoundError, match=r"step 6 .*saved steps: 9, 10"):
        checkpoints.restore(abstract(), 6)
    with pytest.raises(FileNotFoundError, match="saved steps: none"):
        Checkpoints(epath.Path(tmp_path / "nowhere")).path()


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def zeroed(folder):
    path = largest(folder)
    data = bytearray(path.read_bytes())
    data[1000:5096] = bytes(4096)
    path.write_bytes(data)


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def changed_record(folder):
    path = folder / "_CHECKPOINT_METADATA"
    metadata = json.loads(path.read_text())
    digests = metadata["custom_metadata"]["effnetv2_jax"]["digests"]
    digests["step"] = digests["params/dense/kernel"]
    path.write_text(json.dumps(metadata))


def of_another_program(folder):
    from orbax.checkpoint import v1 as ocp

    shutil.rmtree(folder)
    ocp.save_checkpointables(folder, {"state": {"weights": np.ones(3)}})


DAMAGES = {
    "a flipped bit": lambda folder: flipped(largest(folder)),
    "a block of zeros": zeroed,
    "a file that is cut off": lambda folder: largest(folder).write_bytes(largest(folder).read_bytes()[:1000]),
    "a missing file": lambda folder: largest(folder).unlink(),
    "no metadata": lambda folder: (folder / "_CHECKPOINT_METADATA").unlink(),
    "metadata that are cut off": lambda folder: (folder / "_CHECKPOINT_METADATA").write_text('{"item_handlers"'),
    "a changed record": changed_record,
    "no state": lambda folder: shutil.rmtree(folder / "state"),
    "an empty folder": emptied,
    "a file in its place": lambda folder: (shutil.rmtree(folder), folder.write_text("")),
    "a foreign checkpoint": of_another_program,
    "another step's": lambda folder: (shutil.rmtree(folder), shutil.copytree(folder.parent / "1", folder)),
    "another network's": lambda folder: (
        shutil.rmtree(folder),
        write(epath.Path(folder), 2, make_state(2, optimizer=optax.adam(0.1))),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_in_one_line_and_an_older_checkpoint_is_taken(tmp_path, damage):
    checkpoints = make_checkpoints(tmp_path / "checkpoints", 1, 2)
    DAMAGES[damage](tmp_path / "checkpoints" / "2")
    named = r"checkpoints/2 is damaged or not a checkpoint of a run: \S"
    with pytest.raises(DamagedCheckpointError, match=named) as found:
        checkpoints.restore(abstract())
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600
    step, state, damaged = checkpoints.newest_sound(abstract())
    assert step == 1
    assert_equal(state, make_state(1))
    assert [bool(re.search(named, str(error))) for error in damaged] == [True]
    moved = checkpoints.set_aside(2)
    assert moved.exists()
    assert checkpoints.steps == [1]


def test_if_no_checkpoint_is_sound_the_error_says_so_and_nothing_is_deleted(tmp_path):
    checkpoints = make_checkpoints(tmp_path / "checkpoints", 1, 2)
    for step in (1, 2):
        zeroed(tmp_path / "checkpoints" / str(step))
    with pytest.raises(DamagedCheckpointError, match=r"none of its .* sound.*checkpoints/2 .* Nothing was changed"):
        checkpoints.newest_sound(abstract())
    assert checkpoints.steps == [1, 2]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    make_checkpoints(folder, 5)
    return folder / "5"


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(data=strategies.data())
def test_a_changed_byte_anywhere_is_noticed_or_changes_no_value(sound, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(sound, folder / "5")
    files = sorted(path for path in (folder / "5").rglob("*") if path.is_file() and path.stat().st_size)
    path = data.draw(strategies.sampled_from(files))
    content = bytearray(path.read_bytes())
    position = data.draw(strategies.integers(0, len(content) - 1))
    content[position] ^= data.draw(strategies.integers(1, 255))
    path.write_bytes(content)
    try:
        restored = Checkpoints(epath.Path(folder)).restore(abstract())
    except DamagedCheckpointError:
        return
    assert_equal(restored, make_state(5))


def test_a_failure_of_the_storage_is_not_taken_for_damage(tmp_path, monkeypatch):
    checkpoints = make_checkpoints(tmp_path, 1)

    def unavailable(*_):
        raise ValueError("UNAVAILABLE: Error reading /1/state: HTTP 503")

    monkeypatch.setattr("orbax.checkpoint.v1.load_checkpointables", unavailable)
    with pytest.raises(OSError, match="could not be read: UNAVAILABLE"):
        checkpoints.newest_sound(abstract())


@pytest.mark.parametrize("other", [{"kernel": (4,)}, {}, {"kernel": (60, 50), "bias": (3,)}])
def test_weights_of_another_network_are_refused_by_name(tmp_path, other):
    """The other network has another shape, one layer less, or one layer more."""
    checkpoints = make_checkpoints(tmp_path, 1)
    shapes = {
        "params": {"dense": {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in other.items()}},
        "batch_stats": VARIABLES["batch_stats"],
    }
    with pytest.raises(ValueError, match=r"another network .*: ema_params/dense/(kernel|bias) is"):
        checkpoints.read().weights(shapes)


def test_a_digest_depends_on_values_shape_dtype_and_name_alone():
    array = np.arange(6, dtype=np.float32)
    same = np.arange(12, dtype=np.float32)[::2] / 2
    assert digest(array) == digest(same)
    others = [array.reshape(2, 3), array.view(np.int32), array + 1, -array * 0]
    assert len({digest(array), *map(digest, others)}) == 5
    assert digest(np.zeros(3, np.float32)) != digest(-np.zeros(3, np.float32))  # equal numbers, but other bits
    one, two = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert whole_digest(one) == whole_digest(two) != whole_digest({"a": "2", "b": "1"})


def test_a_snapshot_does_not_change_when_the_state_is_donated():
    state = {"a": jnp.arange(4.0), "b": jnp.ones((2, 2), jnp.bfloat16)}
    expected = jax.tree.map(np.array, state)
    copied = snapshot(state)
    jax.jit(lambda tree: jax.tree.map(lambda x: x * 2, tree), donate_argnums=0)(state)
    assert_equal(copied, expected)
