"""Runs of configs/smoke.py: how they are configured, stopped and compared."""

import dataclasses
import signal
import types
from pathlib import Path

from etils import epath

from effnetv2_jax.cli.options.config_file import load_config
from effnetv2_jax.train import loop
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints
from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.report.metrics import read_metrics
from effnetv2_jax.train.tuned_programs import tuned_fields
from effnetv2_jax.train.tuning import Settings, Tuning, write_tuning

OPTION = "xla_cpu_enable_fast_min_max"
"""An option of the CPU's compiler."""

ROOT = Path(__file__).parent.parent.parent


def smoke_config(*overrides):
    """Returns configs/smoke.py as the command line reads it, but keeps the compilation cache of the tests."""
    given = types.SimpleNamespace(config=str(ROOT / "configs/smoke.py"), overrides=list(overrides))
    return dataclasses.replace(load_config(given), compilation_cache="")


def stopping_at(monkeypatch, *steps):
    """Sends this process SIGTERM as soon as it has taken one of the steps."""
    after_step = loop.Loop._after_step

    def signalled(self, *arguments):
        if self.step in steps:
            signal.raise_signal(signal.SIGTERM)
        after_step(self, *arguments)

    monkeypatch.setattr(loop.Loop, "_after_step", signalled)


def rows(workdir):
    """Returns the rows of metrics without the values that depend on the clock."""
    return [
        {key: value for key, value in row.items() if key != "train/images_per_second"}
        for row in read_metrics(epath.Path(workdir))
    ]


def saved_steps(workdir):
    return Checkpoints(epath.Path(workdir) / CHECKPOINTS).steps


def assert_same_run(workdir, other):
    """Checks that two runs have the same metrics at every step and the same final state, bit for bit."""
    got, expected = (Checkpoints(epath.Path(each) / CHECKPOINTS).verify() for each in (workdir, other))
    assert got.step == expected.step
    assert got.digests.keys() == expected.digests.keys()
    assert [name for name in expected.digests if got.digests[name] != expected.digests[name]] == []
    assert rows(workdir) == rows(other)


def write_tuning_of_smoke(path, device="cpu", devices=1, options=None, microbatches=2, remat=(0,), **config):
    """Writes a tuning of smoke.py with other settings for its first stage, and returns it."""
    run = smoke_config(*(f"--config.{name}={value}" for name, value in config.items()))
    work = make_experiment(run, devices).work(devices)
    settings = {name: Settings() for name in work}
    settings["evaluation"] = Settings(compiler_options=options or {})
    settings["stage_1"] = Settings(microbatches, remat, {OPTION: "False"} if options is None else options)
    tuning = Tuning(device, tuned_fields(run), work, settings, {"jax": "0.10.2"}, "v5e:1x1", dict.fromkeys(work, "5ab"))
    write_tuning(str(path), tuning, {"stage_1": {"cycles": 5}})
    return tuning
