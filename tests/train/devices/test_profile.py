"""Traces of steps, the share of the peak, and what becomes of a retrace."""

import jax
import jax.numpy as jnp
import pytest

from effnetv2_jax.model.specs import VARIANTS
from effnetv2_jax.train.devices import throughput
from effnetv2_jax.train.devices.compiler import Programs, RetraceError
from effnetv2_jax.train.devices.profile import Trace, check_within, parse_steps
from effnetv2_jax.train.programs import Source


def test_a_trace_covers_its_steps(tmp_path):
    with Trace(str(tmp_path), parse_steps("1:3")) as trace:
        for step in range(5):
            trace.before(step, None)
            jnp.ones(8).sum().block_until_ready()
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_no_steps_are_no_trace_and_an_unfinished_one_is_written(tmp_path):
    with Trace(str(tmp_path / "none"), parse_steps("")) as trace:
        trace.before(0, None)
    assert not (tmp_path / "none").exists()
    with Trace(str(tmp_path), parse_steps("0:10")) as trace:
        trace.before(0, None)
    assert list(tmp_path.rglob("*.xplane.pb"))


@pytest.mark.parametrize("steps", ["5", "5:5", "9:2", "a:b", "-1:3"])
def test_other_steps_are_refused(steps):
    with pytest.raises(ValueError, match="START:STOP"):
        parse_steps(steps)


def test_steps_that_a_run_does_not_have_are_refused():
    check_within(parse_steps("3:12"), 12)
    check_within(parse_steps(""), 12)
    with pytest.raises(ValueError, match="the steps to profile are 11:13, but the run has 12 steps: 0:12"):
        check_within(parse_steps("11:13"), 12)


class Kind:
    def __init__(self, device_kind):
        self.device_kind = device_kind


def test_peaks_are_those_of_all_devices_where_they_are_on_record():
    assert throughput.peak_flops([Kind("TPU v5 lite")] * 8) == pytest.approx(8 * 197e12)
    assert throughput.peak_flops([Kind("TPU v3")] * 8) == pytest.approx(4 * 123e12)
    assert throughput.peak_flops([Kind("cpu")]) is None


def test_training_takes_three_forward_passes():
    # Source: 8.8 billion multiply-adds of the published S at 384 px count squeeze and excitation otherwise.
    assert throughput.training_flops(VARIANTS["efficientnetv2-s"], 384, 1000) == pytest.approx(6 * 8.366e9, rel=1e-3)


def test_a_retrace_stops_a_debug_run_and_is_told_in_a_long_one():
    source = Source(lambda x: x + 1, (jax.ShapeDtypeStruct((2,), jnp.float32),), {})
    told = []
    with Programs() as programs:
        programs.add("step", lambda _: source)
        programs.compile_all()
        function = programs.get("step")
        function(jnp.ones(2))
        programs.check_retraces(None)
        function(jnp.ones(3))
        programs.check_retraces(told.append)
        assert told == ["the program 'step' was traced 2 times instead of once"]
        function(jnp.ones(4))
        with pytest.raises(RetraceError, match="'step' was traced 2 times"):
            programs.check_retraces(None)
