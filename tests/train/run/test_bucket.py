"""Runs in a bucket, by the real clients of TensorFlow and tensorstore, against a stand-in for the service."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors
from etils import epath
from gcs_server import CUT, READ_ONLY, Faults, GcsServer

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.dataset import dataset_info
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints

ROOT = Path(__file__).parent.parent.parent.parent
RUN = "gs://bucket/run"
STEPS = 12
# The clients wait for milliseconds between two tries instead of seconds, where they can be told.
HASTY = {"GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "20000", "GCS_RETRY_CONFIG_MAX_DELAY_TIME_US": "200000"}
GIVING_UP = {"GCS_RETRY_CONFIG_MAX_RETRIES": "2"}
UNRELIABLE = Faults(share=0.06, kinds=(503, 429, CUT), lost=0.3)
NOTICES = ("google_auth_provider", "host memory: ")
ONE_LINE = re.compile(r"effnetv2 \w+: [^\n]+\n?")


class Child:
    """A process of the command line that uses a server in place of Google's. Leaving the context ends it."""

    def __init__(self, server: GcsServer, command: str, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "effnetv2_jax", command, *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | server.environment() | HASTY | environment
            | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "2"},
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def wait_until(self, happened, seconds=900):
        deadline = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def ended(self, seconds=900) -> tuple[int, str, str]:
        """Returns the exit code, the output, and the errors without what is logged if all goes well."""
        output, errors = self.process.communicate(timeout=seconds)
        lines = [line for line in errors.splitlines(True) if not any(notice in line for notice in NOTICES)]
        return self.process.returncode, output, "".join(lines)


def train(server, workdir=RUN, **environment):
    cache = f"--config.compilation_cache={jax.config.jax_compilation_cache_dir}"
    patient = "--config.grace_seconds=100"  # a save takes several seconds if requests fail
    return Child(server, "train", "--config=smoke", f"--workdir={workdir}", cache, patient, **environment)


def ended(server, command, *arguments, **environment):
    with Child(server, command, *arguments, **environment) as child:
        return child.ended()


@pytest.fixture(scope="module", autouse=True)
def digits(data_dir):
    """The digits, prepared before a run would do it and print its progress."""
    dataset_info(DataConfig(dataset="digits"))
    return data_dir


@pytest.fixture
def server(tmp_path):
    with GcsServer("bucket", folder=tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The folder of the same run on a local disk."""
    folder = tmp_path_factory.mktemp("local")
    with GcsServer("bucket", folder=tmp_path_factory.mktemp("unused")) as server:
        with train(server, folder / "run") as child:
            code, _, errors = child.ended()
        assert code == 0, errors
        assert not server.requests
    return folder / "run"


def names(server, part=""):
    return [name for name in server.api.buckets["bucket"] if part in name]


def committed(server):
    """Returns the steps whose checkpoints are complete, ascending."""
    found = [re.fullmatch(r"run/checkpoints/(\d+)/commit_success\.txt", name) for name in names(server)]
    return sorted(int(match[1]) for match in found if match)


def content(server, name):
    stored = server.api.buckets["bucket"].get(name)
    return stored.content if stored else b""


def download(server, folder):
    """Writes the objects of the run into a folder, and returns it."""
    for name, stored in list(server.api.buckets["bucket"].items()):
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(stored.content)
    return folder / "run"


def digests(workdir):
    """Returns the digest of each array of the last checkpoint, after checking the arrays against them."""
    return Checkpoints(epath.Path(workdir) / CHECKPOINTS).verify(STEPS).digests


def rows(text):
    """Returns the rows of `metrics.jsonl` without those of time."""
    timed = ("second", "compile", "memory")
    return [
        {key: value for key, value in json.loads(line).items() if not any(word in key for word in timed)}
        for line in text.splitlines()
    ]


def assert_same_run(server, local, folder):
    copy = download(server, folder)
    assert len(digests(local)) > 100
    assert digests(copy) == digests(local)
    assert rows((copy / "metrics.jsonl").read_text()) == rows((local / "metrics.jsonl").read_text())
    for name in ("config.json", "data.json", "model.json", "curves.png", "stage_1.png", "stage_2.png", "summary.json"):
        assert (copy / name).stat().st_size
    assert list((copy / "tensorboard").iterdir())


def test_a_run_in_an_unreliable_bucket_stops_resumes_and_ends_with_the_bits_of_a_local_run(server, local, tmp_path):
    server.faults = UNRELIABLE
    with train(server) as child:
        child.wait_until(lambda: names(server, "run/checkpoints/6/"))
        child.process.send_signal(signal.SIGTERM)
        code, _, errors = child.ended()
    assert code == 75, errors
    assert re.fullmatch(r"effnetv2 train: stopped at step \d+ after saving; [^\n]+\n", errors)
    with train(server) as child:
        code, output, errors = child.ended()
    assert code == 0, errors
    assert f"step {STEPS}/{STEPS}" in output
    assert server.failed.keys() == set(UNRELIABLE.kinds)
    assert server.requests.keys() == {"tensorflow", "tensorstore"}
    assert_same_run(server, local, tmp_path / "copy")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The objects of the same run in a bucket."""
    with GcsServer("bucket", folder=tmp_path_factory.mktemp("finished")) as server:
        with train(server) as child:
            code, _, errors = child.ended()
        assert (code, errors) == (0, "")
        return server.api.buckets["bucket"]


@pytest.mark.slow
def test_a_run_in_a_bucket_without_write_access_is_evaluated_and_converted(server, finished, local, tmp_path):
    server.api.buckets["bucket"] |= finished
    server.faults = READ_ONLY
    figures, weights = [], []
    for place in (RUN, str(local)):
        code, output, errors = ended(server, "evaluate", "--config=smoke", f"--workdir={place}")
        assert (code, errors) == (0, "")
        figures.append(output.replace(place, ""))
        file = tmp_path / f"{len(weights)}.safetensors"
        code, _, errors = ended(server, "convert", place, str(file), "--to=flax")
        assert (code, errors) == (0, "")
        weights.append(file.read_bytes())
    assert figures[0] == figures[1]
    assert weights[0] == weights[1]
    assert not server.failed


@pytest.mark.slow
def test_a_checkpoint_that_was_not_committed_is_neither_read_nor_resumed_from(server, finished, local, tmp_path):
    """In a bucket, checkpoints have their final name from the start; the file written last marks them as complete."""
    server.api.buckets["bucket"] |= finished
    folder = f"run/checkpoints/{STEPS}/"
    for name in [name for name in names(server, folder) if name.endswith("commit_success.txt")]:
        del server.api.buckets["bucket"][name]
    code, _, errors = ended(server, "convert", RUN, str(tmp_path / "w.safetensors"), "--to=flax", "--raw")
    assert code == 0, errors
    raw = Checkpoints(epath.Path(local) / CHECKPOINTS).read_weights(STEPS - 3, moving_average=False)[1]
    with safetensors.safe_open(str(tmp_path / "w.safetensors"), "numpy") as file:
        assert np.array_equal(file.get_tensor("params/stem_conv/kernel"), raw["params/stem_conv/kernel"])
    with train(server) as child:
        code, output, errors = child.ended()
    assert code == 0, errors
    assert f"step {STEPS - 2}/" in output
    assert f"step {STEPS - 3}/" not in output
    assert_same_run(server, local, tmp_path / "copy")


@pytest.mark.slow
def test_a_run_that_is_killed_during_each_save_loses_no_earlier_checkpoint(server, local, tmp_path):
    for step, earlier in ((6, 0), (9, 6), (STEPS, 9)):
        with train(server) as child:
            child.wait_until(lambda step=step: names(server, f"run/checkpoints/{step}/state/"))
            child.process.kill()
            child.ended()
        assert committed(server)[-1] == earlier, "killed too late, or the earlier checkpoint is lost"
        with train(server) as child:
            child.wait_until(lambda step=step: step in committed(server))
            child.process.kill()
            child.ended()
        assert committed(server)[-1] >= step
    with train(server) as child:
        code, _, errors = child.ended()
    assert code == 0, errors
    assert_same_run(server, local, tmp_path / "copy")


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(share=1.0, kinds=(503,)), "All 2 retry attempts failed.*503"),
        (Faults(share=1.0, kinds=(401,)), "401.*Invalid Credentials"),
        (READ_ONLY, "403.*does not have permission"),
    ],
    ids=["unavailable", "no credentials", "read only"],
)
def test_a_bucket_that_refuses_everything_ends_the_run_with_one_line(server, faults, reason):
    server.faults = faults
    with train(server, **GIVING_UP) as child:
        code, _, errors = child.ended()
    assert code == 1
    assert ONE_LINE.fullmatch(errors), errors
    assert re.search(reason, errors), errors
    assert 1 <= sum(server.failed.values()) <= 12


@pytest.mark.parametrize("option", ["--workdir", "--config.compilation_cache"])
def test_a_bucket_that_does_not_exist_is_named_in_one_line(server, option):
    """Before the check, TensorFlow looked for the bucket for ever."""
    arguments = {"--config": "smoke", "--workdir": RUN} | {option: "gs://elsewhere/run"}
    code, _, errors = ended(server, "train", *(f"{key}={value}" for key, value in arguments.items()))
    assert code == 1
    assert errors.startswith("effnetv2 train: the bucket gs://elsewhere of gs://elsewhere/run does not exist")
    assert ONE_LINE.fullmatch(errors), errors


@pytest.mark.slow
def test_an_outage_in_the_middle_of_a_run_ends_it_and_the_same_command_resumes_it(server, local, tmp_path):
    with train(server, **GIVING_UP) as child:
        child.wait_until(lambda: b'"step": 2' in content(server, "run/metrics.jsonl"))
        server.faults = Faults(share=1.0)  # before the first checkpoint, which tensorstore would try to write for long
        code, said, errors = child.ended()
    assert code == 1
    assert re.search(
        r"warning: gs://bucket/run/\S+ could not be written: .*503.*; the run goes on, and tries again", said
    )
    assert "Traceback" not in errors
    assert ONE_LINE.fullmatch(errors.splitlines(True)[-1]), errors
    server.faults = Faults()
    with train(server) as child:
        assert child.ended()[0] == 0
    assert_same_run(server, local, tmp_path / "copy")
