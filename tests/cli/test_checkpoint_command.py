"""`effnetv2 checkpoint`: what it prints of sound and of damaged checkpoints."""

import hashlib
import json

import jax
import numpy as np
import pytest
from etils import epath

from effnetv2_jax import VARIANTS, create_model
from effnetv2_jax.cli.main import main
from effnetv2_jax.convert.weights import default_provenance
from effnetv2_jax.model.variables import variable_shapes
from effnetv2_jax.train.checkpoint.orbax_folder import write

SPEC = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)


@pytest.fixture
def run(tmp_path):
    """A run folder with the checkpoints of steps 3 and 12."""
    for step in (3, 12):
        state = {"params": {"kernel": np.arange(5000, dtype=np.float32) + step}, "step": np.array(step, np.int32)}
        write(epath.Path(tmp_path) / "checkpoints" / str(step), step, state)
    rows = [{"step": 3, "train/loss": 1.0}, {"step": 12, "raw/top1": 61.5}, {"step": 12, "averaged/top1": 62.25}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def zero(folder):
    path = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[2000:6096] = bytes(4096)
    path.write_bytes(data)


def test_list_shows_steps_sizes_and_accuracy(run, capsys):
    assert main(["checkpoint", "list", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    _, first, second = [line.split() for line in lines if line.strip() and "─" not in line]
    assert (first[0], first[-3:]) == ("3", ["kB", "–", "–"])
    assert (second[0], second[-5:]) == ("12", ["kB", "61.50", "%", "62.25", "%"])


def test_verify_names_the_damaged_checkpoint_and_fails(run, capsys):
    assert main(["checkpoint", "verify", str(run)]) == 0
    assert capsys.readouterr().out.count("sound, 2 arrays") == 2
    zero(run / "checkpoints" / "12")
    assert main(["checkpoint", "verify", str(run)]) == 1
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("step 3: sound")
    assert second.startswith(f"step 12: DAMAGED: {run}/checkpoints/12 ")
    assert last.startswith("1 of 2 checkpoints are damaged")
    assert main(["checkpoint", "verify", str(run), "--step", "3"]) == 0
    assert main(["checkpoint", "verify", str(run / "checkpoints" / "12")]) == 1
    assert main(["checkpoint", "digest", str(run)]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_verify_notices_the_checkpoint_of_another_network(tmp_path, capsys):
    for step, classes in ((3, 10), (12, 4)):
        shapes = variable_shapes(create_model(SPEC, num_classes=classes))
        variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        write(epath.Path(tmp_path) / "checkpoints" / str(step), step, variables)
    of_ten = {"params": {"classifier": {"bias": np.zeros(10)}}}
    (tmp_path / "model.json").write_text(json.dumps(default_provenance(of_ten, SPEC).to_metadata()))
    assert main(["checkpoint", "verify", str(tmp_path)]) == 1
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("step 3: sound")
    assert "it belongs to another network or recipe than the config's: params/classifier/bias is float32[4]" in second


def test_digest_prints_each_array_and_last_the_whole(run, capsys):
    assert main(["checkpoint", "digest", str(run), "--arrays"]) == 0
    kernel, step, whole = capsys.readouterr().out.splitlines()
    values = np.arange(5000, dtype=np.float32) + 12
    expected = hashlib.sha256(b"float32[5000]" + values.tobytes()).hexdigest()
    assert kernel.split() == [expected, "float32[5000]", "params/kernel"]
    assert step.split()[1:] == ["int32[]", "step"]
    lines = f"{kernel.split()[0]} params/kernel\n{step.split()[0]} step\n"
    assert whole == hashlib.sha256(lines.encode()).hexdigest()
    assert main(["checkpoint", "digest", str(run / "checkpoints"), "--step", "3"]) == 0
    assert capsys.readouterr().out.split() != [whole]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["."], "contains no checkpoint of a run"),
        (["{run}", "--step", "4"], "saved steps: 3, 12"),
    ],
)
def test_what_is_not_there_is_named(run, capsys, monkeypatch, tmp_path_factory, arguments, message):
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    assert main(["checkpoint", "list", *(argument.format(run=run) for argument in arguments)]) == 1
    assert message in capsys.readouterr().err
