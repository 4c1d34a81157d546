"""The memory plan of the input pipeline."""

import dataclasses

import pytest

from effnetv2_jax.data import host_memory
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.sources.source import Source

IMAGENET = Source(1_281_167, 1_281_167, ("one",), "", 110_000.0, read=lambda _: None)


def plan(source=IMAGENET, **fields):
    config = DataConfig(**fields)
    return host_memory.plan_memory(config, [source], image_size=300, batch_size=1024, threads=24)


def test_imagenets_default_buffer_takes_under_two_gigabytes():
    planned = plan(memory_gb=24.0)
    assert planned.encoded == 16_384 * 110_000
    assert not planned.kept
    assert planned.batches == 4 * 1024 * 270_000 + 24 * 8 * 270_000


def test_a_share_that_fits_the_buffer_is_kept_in_memory():
    small = dataclasses.replace(IMAGENET, num_examples=1000)
    assert plan(small, memory_gb=24.0).kept
    assert plan(small, memory_gb=24.0).encoded == 1000 * 110_000


def test_too_small_a_budget_is_refused_with_a_buffer_that_fits():
    message = r" 1\.8 GB, .* 1\.16 GB, .* 2 GB.* shuffle_buffer to 7656"
    with pytest.raises(ValueError, match=message):
        plan(memory_gb=2.0)
    assert plan(memory_gb=2.0, shuffle_buffer=7656)
    with pytest.raises(ValueError, match="shuffle_buffer to 7656"):
        plan(memory_gb=2.0, shuffle_buffer=7657)


def test_the_default_budget_is_half_of_the_available_memory(monkeypatch):
    monkeypatch.setattr(host_memory, "available_bytes", lambda: 10e9)
    assert plan().budget == 5e9


def test_available_memory_is_plausible():
    assert 1e8 < host_memory.available_bytes() < 1e14


def test_the_memory_limit_of_a_container_is_respected(monkeypatch, tmp_path):
    monkeypatch.setattr(host_memory, "_CONTROL_GROUP", tmp_path)
    without_limit = host_memory.available_bytes()
    (tmp_path / "memory.current").write_text("1000000\n")
    (tmp_path / "memory.max").write_text("3000000\n")
    assert host_memory.available_bytes() == 2e6
    (tmp_path / "memory.max").write_text("max\n")
    assert host_memory.available_bytes() == pytest.approx(without_limit, rel=0.2)
