"""Runs whose checkpoints are damaged: every command notices, and training goes on from the newest sound one."""

import gc
import shutil

import jax
import pytest
from train.smoke import ROOT, assert_same_run

from effnetv2_jax.cli.main import main
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS

PICTURE = ROOT / "docs/pictures/bars.png"
SMOKE = f"--config={ROOT / 'configs/smoke.py'}"


def train(workdir):
    cache = f"--config.compilation_cache={jax.config.jax_compilation_cache_dir}"
    return main(["train", SMOKE, "--workdir", str(workdir), cache])


def zero_a_block(folder):
    path = max(folder.glob("state/**/d/*"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[20_000:24_096] = bytes(4096)
    path.write_bytes(data)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a finished run with checkpoints of steps 6, 9 and 12."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    assert train(workdir) == 0
    return workdir


def test_training_goes_on_from_the_newest_sound_checkpoint_to_the_same_bits(straight, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    zero_a_block(workdir / CHECKPOINTS / "12")
    shutil.rmtree(workdir / CHECKPOINTS / "9")
    (workdir / CHECKPOINTS / "9").mkdir()
    assert train(workdir) == 0
    said = " ".join(capsys.readouterr().out.split())
    for step in (12, 9):
        assert f"warning: {workdir}/checkpoints/{step} is damaged" in said
        assert f"it was moved to {workdir}/damaged/{step}, and the run goes on from step 6" in said
    assert_same_run(workdir, straight)


def test_without_a_sound_checkpoint_nothing_is_changed(straight, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    for step in (6, 9, 12):
        zero_a_block(workdir / CHECKPOINTS / str(step))
    before = {path: path.read_bytes() for path in (workdir / CHECKPOINTS).rglob("*") if path.is_file()}
    assert train(workdir) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "none of its checkpoints is sound" in said
    assert {path: path.read_bytes() for path in (workdir / CHECKPOINTS).rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--workdir", "{run}"],
        ["evaluate", SMOKE, "--checkpoint", "{run}"],
        ["predict", "--checkpoint", "{run}", str(PICTURE)],
        ["convert", "{run}", "{run}/out.safetensors", "--to", "timm"],
        ["train", SMOKE, "--workdir", "{run}/next", "--config.init_from={run}"],
        ["checkpoint", "verify", "{run}"],
        ["checkpoint", "digest", "{run}"],
    ],
    ids=["evaluate", "evaluate a checkpoint", "predict", "convert", "start from it", "verify", "digest"],
)
def test_every_command_refuses_a_damaged_checkpoint(straight, tmp_path, capfd, caplog, command):
    workdir = tmp_path / "run"
    shutil.copytree(straight, workdir)
    for path in (workdir / CHECKPOINTS / "12").glob("state/**/d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main([argument.format(run=workdir) for argument in command]) == 1
    gc.collect()  # then asyncio would log the errors of Orbax's other tasks, with their tracebacks
    captured = capfd.readouterr()
    said = captured.err + captured.out
    assert f"{workdir}/checkpoints/12 is damaged" in said
    assert "its arrays cannot be read" in said
    assert "Traceback" not in said + caplog.text
    assert "never retrieved" not in said + caplog.text
    assert max(map(len, said.splitlines())) < 1000
    assert not (workdir / "out.safetensors").exists()
    assert not (workdir / "next/checkpoints").exists() or not list((workdir / "next/checkpoints").iterdir())
