"""The processes of an ablation: every run is trained once, and taken over when its process is gone."""

import os
import signal
import subprocess
import sys
import time

import pytest
from ablation.runs_made import finish, outline, settings
from etils import epath
from train.smoke import rows

from effnetv2_jax.ablation import worker
from effnetv2_jax.ablation.folder import AblationFolder
from effnetv2_jax.ablation.outcome import read_outcome
from effnetv2_jax.ablation.runs import runs_of
from effnetv2_jax.ablation.worker import train_runs
from effnetv2_jax.train.devices.memory import DeviceMemoryError
from effnetv2_jax.train.run.divergence import Diverged
from effnetv2_jax.train.run_folder.lease import FolderInUse
from effnetv2_jax.train.run_folder.owner import owned
from effnetv2_jax.train.trainer import train


@pytest.fixture
def ablation(tmp_path):
    made = settings(tables=("progressive",), seeds=1)
    return AblationFolder(str(tmp_path)), runs_of(made, outline(made), made.tables_of(outline(made)))


def done(config, folder):
    finish(epath.Path(folder), top1=float(config.seed))


def test_every_run_is_trained_once_and_a_finished_one_is_not_trained_again(ablation):
    folder, runs = ablation
    finish(folder.run(runs[1].folder), top1=1.0)
    trained = []
    train_runs(folder, runs, lambda config, path: (trained.append(path), done(config, path)))
    assert trained == [str(folder.run(run.folder)) for number, run in enumerate(runs) if number != 1]


def test_a_run_that_fails_ends_the_ablation_and_is_trained_again_next_time(ablation):
    folder, runs = ablation

    def fail(*_):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        train_runs(folder, runs, fail)
    train_runs(folder, runs, done)
    assert all(read_outcome(folder.run(run.folder)) for run in runs)


@pytest.mark.parametrize("error", [Diverged("the loss is nan"), DeviceMemoryError(needed=2, available=1)])
def test_a_run_that_diverges_or_does_not_fit_is_recorded_and_the_next_is_trained(ablation, error):
    folder, runs = ablation

    def one(config, path):
        if path.endswith(runs[1].folder):
            raise error
        done(config, path)

    train_runs(folder, runs, one)
    outcomes = [read_outcome(folder.run(run.folder)) for run in runs]
    assert [outcome.failure for outcome in outcomes] == ["", str(error), "", ""]


def test_a_run_of_another_process_is_left_out_until_that_process_is_gone(ablation, monkeypatch):
    folder, runs = ablation
    trained, said = [], []
    busy = [runs[0].folder]
    monkeypatch.setattr(worker.time, "sleep", lambda _: busy.clear())  # the other process is gone

    def one(config, path):
        if any(path.endswith(each) for each in busy):
            raise FolderInUse(epath.Path(path), "")
        trained.append(path)
        done(config, path)

    train_runs(folder, runs, one, said.append)
    assert trained == [str(folder.run(run.folder)) for run in [*runs[1:], runs[0]]]
    assert said[:2] == [f"run 1 of 4: {runs[0].label}", "another process trains it"]
    assert said.count("another process trains it") == 1


def test_processes_that_have_joined_do_not_leave_a_run_to_others(ablation, monkeypatch):
    folder, runs = ablation
    monkeypatch.setattr(worker.jax, "process_count", lambda: 2)
    monkeypatch.setattr(worker, "number_of_first", lambda number: number)

    def taken(_, path):
        raise FolderInUse(epath.Path(path), "")

    with pytest.raises(FolderInUse):
        train_runs(folder, runs, taken)


def test_the_trainer_leaves_what_an_outcome_is_read_from(tmp_path):
    made = settings(tables=("progressive",), seeds=1)
    run = runs_of(made, outline(made), made.tables_of(outline(made)))[-1]
    folder = AblationFolder(str(tmp_path))
    with owned(folder.run(run.folder)), pytest.raises(FolderInUse):
        train(run.config, str(folder.run(run.folder)))
    train_runs(folder, [run], train)
    outcome = read_outcome(folder.run(run.folder))
    assert outcome.images_per_second.keys() == {17, 24}
    assert 0 <= outcome.top1["raw"] <= 100


@pytest.mark.slow
def test_an_ablation_that_is_killed_goes_on_to_the_same_end(tmp_path):
    """Trains the runs of a table twice, once with a kill in the middle of the second run."""
    command = [sys.executable, "-m", "effnetv2_jax", "ablate", "run"]
    options = ["--config", "smoke", "--config.steps=6", "--config.checkpoint.every_epochs=0.02", "--seeds", "1"]
    options += ["--config.compilation_cache=", "--tables", "networks"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JAX_PLATFORMS": "cpu"}
    found = {}
    for name in ("whole", "killed"):
        arguments = [*command, str(tmp_path / name), *options]
        if name == "killed":
            folders = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").glob("runs/*/0"))
            child = subprocess.Popen(arguments, env=environment)
            deadline = time.monotonic() + 900
            while not (tmp_path / name / folders[1] / "checkpoints/2").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            child.send_signal(signal.SIGKILL)
            child.wait()
        subprocess.run(arguments, env=environment, check=True)
        paths = sorted((tmp_path / name).glob("runs/*/0"))
        found[name] = [(rows(path), read_outcome(epath.Path(path)).top1) for path in paths]
    assert len(found["whole"]) == 2
    assert found["killed"] == found["whole"]
