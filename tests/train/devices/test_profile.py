"""Traces of steps, the share of the peak, and what becomes of a retrace."""

import jax.numpy as jnp
import pytest

from effnetv2_jax.train.devices.profile import Trace, check_within, parse_steps


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
