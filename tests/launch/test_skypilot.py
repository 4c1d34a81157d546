"""launch/skypilot.yaml, checked without SkyPilot."""

import subprocess

import pytest
import yaml
from launch.conftest import ROOT

from effnetv2_jax.train.run.preemption import EXIT_CODE

TASK = yaml.safe_load((ROOT / "launch/skypilot.yaml").read_text())
# Section → the keys of SkyPilot's schema that this project may use. Source: sky/utils/schemas.py, SkyPilot 0.14.1.
KEYS = {
    (): {"name", "resources", "workdir", "envs", "setup", "run"},
    ("resources",): {"infra", "accelerators", "accelerator_args", "use_spot", "job_recovery", "disk_size"},
    ("resources", "accelerator_args"): {"tpu_vm", "runtime_version"},
    ("resources", "job_recovery"): {"strategy", "max_restarts_on_errors", "recover_on_exit_codes"},
}


@pytest.mark.parametrize("section", KEYS)
def test_the_file_uses_only_known_keys(section):
    found = TASK
    for name in section:
        found = found[name]
    assert set(found) <= KEYS[section]


def test_a_saved_run_is_restarted_and_a_failed_one_is_not():
    resources = TASK["resources"]
    assert resources["use_spot"] is True
    assert resources["job_recovery"] == {"max_restarts_on_errors": 0, "recover_on_exit_codes": [EXIT_CODE]}


def test_the_run_folder_must_be_given():
    assert TASK["envs"]["WORKDIR"] is None


@pytest.mark.parametrize("part", ["setup", "run"])
def test_commands_are_valid_bash(part):
    assert subprocess.run(["bash", "-n"], input=TASK[part], text=True, capture_output=True).stderr == ""


def test_the_run_part_calls_effnetv2_train(tmp_path):
    """Runs the `run` part with a stand-in for `effnetv2`, which prints its arguments."""
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch/env.sh").write_text((ROOT / "launch/env.sh").read_text())
    program = tmp_path / ".venv/bin/effnetv2"
    program.parent.mkdir(parents=True)
    program.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\nexit 75\n')
    program.chmod(0o755)
    envs = {**TASK["envs"], "WORKDIR": "gs://b/r", "OPTIONS": "--config.seed=1 --config.epochs=2"}
    done = subprocess.run(["bash", "-c", TASK["run"]], cwd=tmp_path, env=envs, capture_output=True, text=True)
    assert done.returncode == 75
    options = ["--config.seed=1", "--config.epochs=2"]
    assert done.stdout.split() == ["train", "--config", envs["CONFIG"], "--workdir", "gs://b/r", *options]
