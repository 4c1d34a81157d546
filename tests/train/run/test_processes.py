"""Runs of several processes: they equal the run of one process, share its folder and stop together."""

import contextlib
import json
import shutil
import signal
import types
import weakref

import numpy as np
import pytest
from etils import epath
from train.run.processes import Children
from train.smoke import smoke_config

from effnetv2_jax.cli.main import main
from effnetv2_jax.data.pipeline import train_batches
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints
from effnetv2_jax.train.devices.sharding import check_batch_size, check_group_size, make_mesh
from effnetv2_jax.train.report.metrics import read_metrics
from effnetv2_jax.train.run.preemption import Stopped, StopSignal
from effnetv2_jax.train.run.processes import announced_processes
from effnetv2_jax.train.trainer import train

STEPS, STOP = 12, 4
SMOKE = ("--config=configs/smoke.py", "--config.model.bn_group_size=8")
LOSS, PARAMETERS = 1e-4, 1e-4
"""Allowed differences between numbers of processes: relative for losses, absolute for parameters and statistics."""


def grouped_config():
    return smoke_config(*SMOKE[1:])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a run of one process with two devices, and a copy of it as it was after step 4."""
    workdir, stopped = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Stopped):
        answers = iter([False] * (STOP - 1) + [True])
        patch.setattr(StopSignal, "stops_now", lambda _: next(answers))
        train(grouped_config(), str(workdir))
    shutil.copytree(workdir, stopped)
    made, counts = [], [None]

    def noted(*arguments, **named):
        assert not [one for one in made if one() is not None], "the previous stage still holds its batches"
        batches = train_batches(*arguments, **named)
        made.append(weakref.ref(batches))
        assert named["broken"] is counts[-1], "the count of broken images starts again"
        counts.append(batches.broken)
        return batches

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("effnetv2_jax.train.loop.train_batches", noted)
        train(grouped_config(), str(workdir))
    assert len(made) == 2
    return workdir, stopped


def final_state(workdir):
    checkpoints = Checkpoints(epath.Path(workdir) / CHECKPOINTS)
    return checkpoints.read().arrays


def losses(workdir):
    """Returns (step, metric) → value for each step and evaluation."""
    found = {}
    for row in read_metrics(epath.Path(workdir)):
        values = {key: value for key, value in row.items() if key.endswith(("loss", "grad_norm", "top1", "count"))}
        assert not {(row["step"], key) for key in values} & found.keys()
        found |= {(row["step"], key): value for key, value in values.items()}
    return found


def assert_same_run(workdir, other):
    got, expected = losses(workdir), losses(other)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert got[key] == pytest.approx(value, rel=LOSS), key
    got, expected = final_state(workdir), final_state(other)
    assert got.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(got[path], value, rtol=0, atol=PARAMETERS, err_msg=path)


def test_two_processes_stop_together_and_one_process_resumes_the_run(alone, tmp_path):
    """One process gets SIGTERM. Both save the same step and stop. Then this process finishes the run."""
    workdir = tmp_path / "run"
    with Children("train", *SMOKE, f"--workdir={workdir}") as children:
        children.wait_until(lambda: losses(workdir))
        children.signal(1, signal.SIGTERM)
        first, second = children.ended()
    assert [first[0], second[0]] == [75, 75], (first[2], second[2])
    assert [line for line in second[1].splitlines() if not line.startswith("[Gloo]")] == []
    assert "after saving" in first[2]
    assert "after saving" not in second[2]
    steps = [int(path.name) for path in (workdir / CHECKPOINTS).iterdir() if path.name.isdigit()]
    assert len(steps) == 2
    assert min(steps) == 0  # every run saves the state that it starts with
    assert 1 <= max(steps) < STEPS
    assert f"stopped at step {max(steps)} " in first[2]
    train(grouped_config(), str(workdir))
    assert_same_run(workdir, alone[0])


def test_two_processes_resume_the_run_of_one_and_evaluate_each_image_once(alone, tmp_path):
    """They resume at step 4, cross the stage boundary, and each evaluates 180 images in batches of 48."""
    workdir = tmp_path / "run"
    shutil.copytree(alone[1], workdir)
    with Children("train", *SMOKE, f"--workdir={workdir}") as children:
        ended = children.ended()
    assert [code for code, *_ in ended] == [0, 0], ended
    assert "2 × cpu (cpu, 2 processes)" in ended[0][1]
    assert json.loads((workdir / "summary.json").read_text())["evaluated_images"] == 360
    assert_same_run(workdir, alone[0])


@pytest.mark.slow
def test_a_finished_run_that_two_processes_start_again_has_each_row_once(alone, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(alone[0], workdir)
    with Children("train", *SMOKE, f"--workdir={workdir}") as children:
        ended = children.ended()
    assert [code for code, *_ in ended] == [0, 0], ended
    assert_same_run(workdir, alone[0])


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A run of one process with eight devices."""
    workdir = tmp_path_factory.mktemp("eight")
    with Children("train", *SMOKE, f"--workdir={workdir}", processes=1, devices=8) as children:
        assert children.ended()[0][0] == 0
    return workdir


@pytest.mark.slow
def test_runs_on_different_numbers_of_devices_agree_until_rounding_errors_grow(alone, eight):
    """Sums of eight parts round differently: by 5e-7 of the loss after five steps, then threefold with every step."""
    got, expected = losses(eight), losses(alone[0])
    assert got.keys() == expected.keys()
    for (step, name), value in expected.items():
        if name.endswith("loss"):
            assert got[step, name] == pytest.approx(value, rel=1e-5 if step <= 5 else 0.02), (step, name)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(2, 4), (8, 1)])
def test_the_number_of_processes_does_not_change_a_run_on_eight_devices(eight, tmp_path, processes, devices):
    with Children("train", *SMOKE, f"--workdir={tmp_path}", processes=processes, devices=devices) as children:
        ended = children.ended(600)
    assert [code for code, *_ in ended] == [0] * processes, [
        said[-3000:] for code, _, said in ended if code not in (0, 75)
    ]
    assert_same_run(tmp_path, eight)


@pytest.mark.slow
def test_evaluate_runs_on_two_processes(alone):
    with Children("evaluate", *SMOKE, f"--workdir={alone[0]}", "--json") as children:
        first, second = children.ended()
    assert (first[0], second[0]) == (0, 0), (first[2], second[2])
    results = json.loads(first[1].strip().splitlines()[-1])
    assert results["raw"]["count"] == results["averaged"]["count"] == 360


def test_resuming_a_run_with_other_data_is_refused(alone, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(alone[1], workdir)
    (workdir / "data.json").write_text('{"origin": "tfds:digits/0.9.0[train]"}')
    with pytest.raises(ValueError, match=r"digits/0\.9\.0.*digits/1\.0\.0"):
        train(grouped_config(), str(workdir))


@pytest.mark.parametrize(
    ("environment", "metadata", "expected"),
    [
        ({}, {}, 1),
        ({"SLURM_STEP_NUM_TASKS": "4"}, {}, 4),
        ({"SLURM_NTASKS": "4"}, {}, 1),  # a shell within an allocation
        ({"OMPI_COMM_WORLD_SIZE": "2"}, {}, 2),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, {"worker-network-endpoints": "a,b"}, 1),  # one host of GKE, or Colab
        ({"TPU_WORKER_HOSTNAMES": "a,b,c,d"}, {}, 4),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, {}, 2),
        ({}, {"worker-network-endpoints": "unknown:unknown:10.0.0.1"}, 1),
        ({}, {"worker-network-endpoints": "a:b:10.0.0.1,a:c:10.0.0.2"}, 2),
        ({}, {"worker-network-endpoints": "a", "tpu-env": "ZONE: 'x'\nMEGASCALE_NUM_SLICES: '2'\n"}, 2),
        ({"TPU_SKIP_MDS_QUERY": "1"}, {"worker-network-endpoints": "a,b"}, 1),
    ],
)
def test_the_number_of_processes_is_read_from_the_environment_and_metadata(environment, metadata, expected):
    assert announced_processes(environment, lambda name: metadata.get(name, "")) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator=a:1"], "--coordinator, --processes and --process-index go together"),
        (["--coordinator=a", "--processes=2", "--process-index=0"], "must be HOST:PORT, got 'a'"),
        (["--coordinator=a:1", "--processes=2", "--process-index=2"], r"must be in 0..1, got 2"),
        (["--coordinator=a:1", "--processes=2", "--process-index=0", "--distributed=none"], "exclude each other"),
    ],
)
def test_wrong_process_arguments_are_refused(arguments, message, capsys, tmp_path):
    assert main(["train", *SMOKE, f"--workdir={tmp_path}", *arguments]) == 2
    assert message in capsys.readouterr().err


def device(number, process, piece=0):
    return types.SimpleNamespace(id=number, process_index=process, slice_index=piece)


def test_the_mesh_orders_devices_by_process(monkeypatch):
    ring = [
        device(0, 0),
        device(1, 0),
        device(6, 3, 1),
        device(7, 3, 1),
        device(5, 2, 1),
        device(4, 2, 1),
        device(3, 1),
    ]
    monkeypatch.setattr("effnetv2_jax.train.devices.sharding.Mesh", lambda devices, names, axis_types: devices)
    assert [each.id for each in make_mesh([*ring, device(2, 1)])] == list(range(8))
    with pytest.raises(ValueError, match=r"devices.* \{0: 2, 1: 1\}"):
        make_mesh([device(0, 0), device(1, 0), device(2, 1)])


def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_ones():
    check_batch_size("batch_size", 24, 8, 4)
    with pytest.raises(ValueError, match=r"33 .* 8 devices of 4 processes.* 32 or 40"):
        check_batch_size("batch_size", 33, 8, 4)


def test_batch_norm_groups_span_whole_devices_or_lie_within_one():
    for size in (0, 1, 2, 4, 8, 16, 32, 64):
        check_group_size(size, 32, 8)
    with pytest.raises(ValueError, match=r"bn_group_size 8 .* 24 images on 8 devices.* 6 or 12"):
        check_group_size(8, 24, 8)
