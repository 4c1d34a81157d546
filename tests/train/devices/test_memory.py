"""Programs that fit the memory of a device, and the refusal of those that do not."""

import json

import jax
import jax.numpy as jnp
import pytest

from effnetv2_jax.cli.main import main
from effnetv2_jax.train.devices.memory import (
    DeviceMemoryError,
    accumulation_choices,
    automatic_choices,
    compile_within,
    program_bytes,
    smallest_fitting,
)


def test_microbatches_give_each_device_whole_images():
    assert accumulation_choices(48, 4) == (1, 2, 3, 4, 6, 12)


@pytest.mark.parametrize(
    ("batch_size", "devices", "group_size", "first"),
    [
        (4096, 8, 0, 4),  # 128 images a device
        (4096, 8, 1024, 4),  # the same: a group spans eight devices
        (4096, 1, 1024, 4),  # the microbatch is not smaller than a group
        (4096, 64, 1024, 1),  # 64 images a device are left
        (192, 1, 0, 1),  # 128 do not divide 192
        (384, 1, 0, 3),
    ],
)
def test_automatic_microbatches_begin_with_128_images_a_device(batch_size, devices, group_size, first):
    choices = accumulation_choices(batch_size, devices)
    assert automatic_choices(choices, batch_size // devices, group_size // devices) == choices[choices.index(first) :]


@pytest.mark.parametrize(("available", "parts", "tried"), [(100, 1, [1]), (50, 2, [1, 2]), (11, 12, [1, 12])])
def test_the_smallest_fitting_number_is_found_without_trying_hopeless_ones(available, parts, tried):
    attempts = []

    def attempt(parts):
        attempts.append(parts)
        needed = 100 // parts
        if needed > available:
            raise DeviceMemoryError(needed, available)
        return needed

    assert smallest_fitting((1, 2, 3, 4, 6, 12), attempt) == (parts, 100 // parts)
    assert attempts == tried


def test_a_program_that_never_fits_is_refused_with_the_memory_it_needs():
    def attempt(_):
        raise DeviceMemoryError(7 * 2**30, 2**30)

    with pytest.raises(DeviceMemoryError, match=r"needs 7 GiB on each device, which has 1 GiB.*batch_size"):
        smallest_fitting((1, 2), attempt)


def test_the_memory_of_a_compiled_program_is_measured():
    lowered = jax.jit(lambda x: x @ x).lower(jax.ShapeDtypeStruct((256, 256), jnp.float32))
    needed = program_bytes(compile_within(lowered, None))
    assert needed >= 2 * 256 * 256 * 4
    with pytest.raises(DeviceMemoryError):
        compile_within(lowered, needed - 1)


@pytest.mark.parametrize(
    "refusal",
    [
        "Ran out of memory in memory space hbm. Used 61.5G of 15.75G hbm. Exceeded hbm capacity by 45.75G.",
        "the total memory required for HLO temporaries (61.50G) exceeds available HBM (15.75G).",
    ],
)
def test_the_needed_memory_is_read_from_errors_of_the_tpu_compiler(refusal):
    class Lowered:
        def compile(self, **_):
            raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {refusal}")

    with pytest.raises(DeviceMemoryError, match=r"needs 61.5 GiB on each device, which has 15.8 GiB"):
        compile_within(Lowered(), None)


def test_training_that_does_not_fit_is_refused_before_the_first_step(tmp_path, capsys):
    arguments = ["train", "--config", "configs/smoke.py", "--workdir", str(tmp_path)]
    assert main([*arguments, "--config.device_memory_gib=0.0001"]) == 1
    told = capsys.readouterr()
    assert "stage_2 needs" in told.err
    assert "accumulation_steps" in told.err
    assert "step 1/" not in told.out
    # No step was taken, so another config may use the folder. It is refused only because it does not fit either.
    assert main([*arguments, "--config.device_memory_gib=0.0002"]) == 1
    assert "another configuration" not in capsys.readouterr().err


def test_an_evaluation_that_does_not_fit_is_refused_before_the_first_step(tmp_path, capsys):
    large = ["--config.evaluation.image_size=96", "--config.evaluation.batch_size=360"]
    arguments = ["train", "--config", "configs/smoke.py", "--workdir", str(tmp_path), *large]
    assert main([*arguments, "--config.device_memory_gib=0.006"]) == 1
    told = capsys.readouterr()
    assert "evaluation needs" in told.err
    assert "step 1/" not in told.out


def test_auto_accumulation_takes_as_many_microbatches_as_the_memory_needs(tmp_path):
    # Without accumulation, the first stage of smoke.py needs 2.91 MiB on each device, and the second 3.24 MiB.
    arguments = ["train", "--config", "configs/smoke.py", "--workdir", str(tmp_path)]
    assert main([*arguments, "--config.accumulation_steps=auto", "--config.device_memory_gib=0.0029"]) == 0
    programs = json.loads((tmp_path / "summary.json").read_text())["programs"]
    for name in ("stage_1", "stage_2"):
        assert programs[name]["device_bytes"] <= 0.0029 * 2**30
    assert programs["stage_2"]["accumulation_steps"] > 1
