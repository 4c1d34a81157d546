"""launch/xpk.sh: the exact command that it runs, and the input that it refuses."""

import shlex

import pytest
from launch.conftest import ROOT

from effnetv2_jax.train.run.preemption import EXIT_CODE

CALL = ("my-run", "--cluster=c1", "--zone=us-east5-b", "--type=v5litepod-16")
COMMAND = ("--", "effnetv2", "train", "--config.progressive.image_size=(128, 224)", "--workdir=gs://b/r")
EXPECTED = [
    *("xpk", "workload", "create", "--workload=my-run", "--cluster=c1", "--tpu-type=v5litepod-16", "--zone=us-east5-b"),
    *("--project=p", "--base-docker-image=python:3.12", f"--script-dir={ROOT}", "--max-restarts=3"),
    *(f"--restart-on-exit-codes={EXIT_CODE}", "--termination-grace-period-seconds=60"),
]


def test_a_workload_is_created(cloud):
    options = ("--project", "p", "--max-restarts", "3")
    done = cloud.run("xpk.sh", *CALL, *options, *COMMAND)
    assert done.returncode == 0, done.stderr
    (call,) = cloud.calls
    assert call[:-1] == EXPECTED
    install, environment, start = call[-1].removeprefix("--command=").split(" && ")
    assert shlex.split(install) == ["python", "-m", "pip", "install", "--quiet", ".[tpu,train]"]
    assert environment == "source launch/env.sh"
    assert shlex.split(start) == ["exec", *COMMAND[1:]]

    printed = cloud.run("xpk.sh", *CALL, *options, "--dry-run", *COMMAND)
    assert shlex.split(printed.stdout) == call
    assert len(cloud.calls) == 1


def test_xpk_needs_no_runtime_version(cloud):
    done = cloud.run("xpk.sh", *CALL[:3], "--type=tpu7x-16", *COMMAND)
    assert done.returncode == 0, done.stderr
    assert "--tpu-type=tpu7x-16" in cloud.calls[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (CALL, "the command is missing: give it after --"),
        ((CALL[0], *CALL[2:], *COMMAND), "bad or missing --cluster ''"),
        ((*CALL, "--mode=spot", *COMMAND), "unknown option --mode; known: --zone --project --dry-run --cluster"),
    ],
)
def test_bad_input_is_refused(cloud, arguments, message):
    done = cloud.run("xpk.sh", *arguments)
    assert (done.returncode, cloud.calls) == (2, [])
    assert message in done.stderr
