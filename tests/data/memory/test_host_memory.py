"""The host memory that a run needs, and the refusal of a run that does not fit."""

import dataclasses
import re

import pytest

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.memory import host_memory
from effnetv2_jax.data.memory.host_memory import Pipeline, check_host_memory, evaluation_pipeline
from effnetv2_jax.data.sources.source import Source

IMAGENET = Source(1_281_167, 1_281_167, ("one",), "", 110_000.0, read=lambda _: None)
IMAGE = 3 * 300 * 300
STAGES = [Pipeline(f"stage {index + 1}", size, 512) for index, size in enumerate((128, 224, 300))]
EVALUATION = evaluation_pipeline(384, 256)
ENCODED, STATE = 16_384 * 110_000, 500_000_000
THREADS = 24
LAST_STAGE = 8 * 512 * IMAGE + THREADS * 8 * IMAGE
EVALUATED = 10 * 256 * 3 * 384**2 + THREADS * 8 * 3 * 384**2
NEEDED = ENCODED + STATE + LAST_STAGE + EVALUATED


def check(source=IMAGENET, *, stages=STAGES, evaluation=EVALUATION, reserved=STATE, divisor=1, **fields):
    config = DataConfig(threads=THREADS, **fields)
    held = {"a copy of the state": reserved}
    return check_host_memory(config, [source], stages, evaluation, reserved=held, divisor=divisor)


def refusal(**arguments) -> str:
    with pytest.raises(ValueError, match="does not fit into host memory") as caught:
        check(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def advised(text: str, message: str) -> float:
    found = re.search(rf"{re.escape(text)} ([\d.]+)", message)
    assert found, message
    return float(found[1])


def test_the_largest_stage_the_evaluation_and_what_others_hold_are_needed_at_once():
    memory = check(memory_gb=24.0)
    assert memory.parts == {
        "shuffle buffer": ENCODED,
        "batches of stage 3 (300 px)": LAST_STAGE,
        "batches of evaluation (384 px)": EVALUATED,
        "a copy of the state": STATE,
    }
    assert memory.needed == NEEDED


def test_a_share_that_fits_the_buffer_is_kept_in_memory():
    small = dataclasses.replace(IMAGENET, num_examples=1000)
    assert check(small, memory_gb=24.0).parts["all encoded images"] == 1000 * 110_000


def test_the_memory_of_a_run_is_logged(caplog):
    with caplog.at_level("INFO"):
        check(memory_gb=24.0)
    assert re.search(
        r"host memory: at most 4.68 GB \(shuffle buffer: 1.8 GB, .*, a copy of the state: 500 MB\), "
        r"of a budget of 24 GB \(data.memory_gb\)",
        caplog.text,
    )


def test_a_stage_that_does_not_fit_is_named_with_the_evaluation_beside_it():
    message = refusal(memory_gb=3.0)
    assert "stage 2" not in message
    assert "stage 3 (300 px) needs 3.46 GB, evaluation (384 px) needs 4.68 GB" in message
    assert "of a budget of 3 GB (data.memory_gb)" in message


def test_an_evaluation_that_alone_does_not_fit_is_named():
    message = refusal(memory_gb=4.0)
    assert "evaluation (384 px) needs" in message
    assert "stage 3 (300 px) needs" not in message


@pytest.mark.parametrize("memory_gb", [3.0, 4.0])
def test_the_advised_shuffle_buffer_is_the_largest_that_fits(memory_gb):
    buffer = int(advised("reduce data.shuffle_buffer to", refusal(memory_gb=memory_gb)))
    assert check(memory_gb=memory_gb, shuffle_buffer=buffer)
    refusal(memory_gb=memory_gb, shuffle_buffer=buffer + 1)


def test_the_advised_evaluation_batch_is_the_largest_that_fits():
    batch = int(advised("reduce evaluation.batch_size to", refusal(memory_gb=4.0)))
    assert check(memory_gb=4.0, evaluation=evaluation_pipeline(384, batch))
    refusal(memory_gb=4.0, evaluation=evaluation_pipeline(384, batch + 1))


def test_the_advised_batch_fits_and_divides_over_the_devices():
    message = refusal(memory_gb=3.5, evaluation=evaluation_pipeline(384, 512), divisor=16)
    batch = int(advised("reduce batch_size (and evaluation.batch_size, if it is set) to", message))
    assert batch % 16 == 0
    assert batch > 0
    smaller = [dataclasses.replace(stage, batch_size=batch) for stage in STAGES]
    assert check(memory_gb=3.5, stages=smaller, evaluation=evaluation_pipeline(384, batch))


def test_the_advised_budget_is_enough(monkeypatch):
    monkeypatch.setattr(host_memory, "available_bytes", lambda: 6e9)
    message = refusal()
    assert "of a budget of 3 GB (half of the 6 GB that are available)" in message
    assert check(memory_gb=advised("raise data.memory_gb to", message))


def test_more_than_is_available_is_not_advised(monkeypatch):
    monkeypatch.setattr(host_memory, "available_bytes", lambda: 4e9)
    assert "raise data.memory_gb" not in refusal()
    assert refusal(reserved=9_000_000_000).endswith("this host has too little memory")


def test_each_host_holds_its_share_of_a_batch():
    shared = [dataclasses.replace(stage, hosts=4) for stage in STAGES]
    whole, share = (check(memory_gb=24.0, stages=stages).parts for stages in (STAGES, shared))
    name = "batches of stage 3 (300 px)"
    assert whole[name] - share[name] == 8 * (512 - 128) * IMAGE
