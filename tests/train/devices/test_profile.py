"""Traces of training steps, and the steps that are refused."""

import jax.numpy as jnp
import pytest

from effnetv2_jax.train.devices.profile import Trace, check_within, parse_steps


def test_a_trace_is_written(tmp_path):
    with Trace(str(tmp_path), parse_steps("1:3")) as trace:
        for step in range(5):
            trace.before(step, None)
            jnp.ones(8).sum().block_until_ready()
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_without_steps_there_is_no_trace_and_an_unfinished_trace_is_written(tmp_path):
    with Trace(str(tmp_path / "none"), parse_steps("")) as trace:
        trace.before(0, None)
    assert not (tmp_path / "none").exists()
    with Trace(str(tmp_path), parse_steps("0:10")) as trace:
        trace.before(0, None)
    assert list(tmp_path.rglob("*.xplane.pb"))


@pytest.mark.parametrize("steps", ["5", "5:5", "9:2", "a:b", "-1:3"])
def test_malformed_steps_are_refused(steps):
    with pytest.raises(ValueError, match="START:STOP"):
        parse_steps(steps)


def test_steps_beyond_the_end_of_the_run_are_refused():
    check_within(parse_steps("3:12"), 12)
    check_within(parse_steps(""), 12)
    with pytest.raises(ValueError, match=r"11:13.* 0:12"):
        check_within(parse_steps("11:13"), 12)
