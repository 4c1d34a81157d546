"""A whole search: the same for the same seed, with one process or several, killed or not."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from etils import epath

pytest.importorskip("optuna")

from search.networks import BASE, outcome, result, settings

from effnetv2_jax.model.spec_file import spec_text, write_spec
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.search import worker
from effnetv2_jax.search.folder import SearchFolder
from effnetv2_jax.search.worker import search
from effnetv2_jax.train.report.metrics import read_metrics

SETTINGS = settings(samples=12, at_once=2, references=(spec_text(BASE),), stop_below=25.0, stop_after=0.0)

# A process of a search whose trainings only take a tenth of a second, so that it is killed in the middle of one.
CHILD = """
import sys, time
sys.path.insert(0, {tests!r})
from search import networks
from effnetv2_jax.search import worker
from effnetv2_jax.search.folder import SearchFolder

def run(config, task, num_classes, price, bar, own_process):
    time.sleep(0.1)
    if task.proposal.number >= 3:
        print("at work", flush=True)
        time.sleep(60)
    return networks.outcome(networks.settings().space, task.proposal) if task.proposal.params else networks.result(-1)

worker.run_candidate = run
folder = SearchFolder({folder!r})
worker.search(folder, folder.settings())
"""


@pytest.fixture
def invented(monkeypatch):
    """Trains nothing: results are invented, and what each candidate is compared with is noted."""
    seen = {}

    def run(config, task, num_classes, price, bar, own_process):
        assert not own_process
        assert (config, num_classes) == (SETTINGS.train_config(), 10)
        assert callable(price)
        seen[task.proposal.number] = len(bar.known)
        if not task.proposal.params:
            return result(-1)
        time.sleep(0.01)
        return outcome(SETTINGS.space, task.proposal)

    monkeypatch.setattr(worker, "run_candidate", run)
    monkeypatch.setattr(worker, "_WAIT_SECONDS", 0.01)
    return seen


def searched(path):
    folder = SearchFolder(str(path))
    search(folder, folder.begin(SETTINGS))
    return folder.results()


def test_a_candidate_is_compared_with_those_before_it(invented, tmp_path):
    results = searched(tmp_path)
    assert [each.proposal.number for each in results] == list(range(12))
    assert invented == {-1: 0} | {number: max(0, number - 1) for number in range(12)}


def test_two_processes_and_a_killed_one_give_the_search_of_a_single_one(invented, tmp_path):
    alone = searched(tmp_path / "alone")
    killed = SearchFolder(str(tmp_path / "killed"))
    killed.begin(SETTINGS)
    code = CHILD.format(tests=str(Path(__file__).parent.parent), folder=str(killed.path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout.readline() == "at work\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(SearchFolder(str(killed.path)).results()) == 3
    processes = [threading.Thread(target=searched, args=(killed.path,)) for _ in range(2)]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    assert SearchFolder(str(killed.path)).results() == alone
    assert invented[11] == 10


@pytest.mark.slow
def test_a_real_search_that_is_killed_goes_on_to_the_same_end(tmp_path):
    """Trains three small networks with the real trainer, twice, once with a kill in the middle of a training."""
    base = VARIANTS["efficientnet-b0"]
    write_spec(tmp_path / "base.json", dataclasses.replace(base, name="three rows", rows=base.rows[:3], top1=None))
    command = [sys.executable, "-m", "effnetv2_jax", "search", "run"]
    options = [
        *("--config", "smoke", "--config.steps=6", "--config.checkpoint.every_epochs=0.02", "--samples", "3"),
        *("--config.compilation_cache=", "--population", "2"),
        *("--base", str(tmp_path / "base.json"), "--references"),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JAX_PLATFORMS": "cpu"}
    results, losses = {}, {}
    for name in ("whole", "killed"):
        folder = tmp_path / name
        arguments = [*command, str(folder), *options]
        if name == "killed":
            whole = tmp_path / "whole/candidates"  # the times of steps would differ, and with them the search
            for number in range(3):
                price = folder / f"candidates/{number:04d}/price.json"
                price.parent.mkdir(parents=True)
                price.write_text((whole / f"{number:04d}/price.json").read_text())
            child = subprocess.Popen(arguments, env=environment)
            state = folder / "candidates/0001/run/checkpoints/2"
            deadline = time.monotonic() + 600
            while not state.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            child.send_signal(signal.SIGKILL)
            child.wait()
        subprocess.run(arguments, env=environment, check=True)
        candidates = sorted((folder / "candidates").iterdir())
        results[name] = [json.loads((each / "result.json").read_text()) for each in candidates]
        losses[name] = [
            [row.get("train/loss") for row in read_metrics(epath.Path(each / "run"))] for each in candidates
        ]
    assert len(results["whole"]) == 3
    assert results["killed"] == results["whole"]
    assert losses["killed"] == losses["whole"]
