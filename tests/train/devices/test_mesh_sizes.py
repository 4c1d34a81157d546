"""A run does not depend on the number of devices."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from train.run.processes import ROOT

BATCH, LOSS, STATE = 32, 1e-5, 1e-5


@pytest.mark.parametrize("group", [8])
def test_batch_norm_groups_give_the_same_run_on_1_2_4_and_8_devices(group):
    """After three steps, losses agree to a relative 1e-5, and parameters and statistics to 1e-5 (measured: 3e-7)."""
    child = subprocess.run(
        [sys.executable, "tests/train/devices/mesh_sizes.py", str(group), jax.config.jax_compilation_cache_dir],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    report = json.loads(child.stdout.strip().splitlines()[-1])
    for devices, found in report.items():
        np.testing.assert_allclose(found["losses"], report["1"]["losses"], rtol=LOSS)
        assert found["difference"] <= STATE, devices
        filled = max(1, group * int(devices) // BATCH)  # number of devices that hold the images of a group
        assert all(size <= filled for size in found["communicating"]), (devices, found["communicating"])
        assert bool(found["communicating"]) == (filled > 1)
