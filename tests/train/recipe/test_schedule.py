"""Learning rates by step."""

import numpy as np
import pytest
import tensorflow as tf

from effnetv2_jax.train.recipe.schedule import ScheduleConfig, make_schedule


def rates(steps, *, batch_size=4096, steps_per_epoch=100.0, total_steps=1000, **fields):
    schedule = make_schedule(
        ScheduleConfig(**fields), batch_size=batch_size, steps_per_epoch=steps_per_epoch, total_steps=total_steps
    )
    return [float(schedule(step)) for step in steps]


def test_the_official_schedule_warms_up_and_falls_as_a_staircase_counted_from_step_0():
    # 4096 / 256 · 0.016 = 0.256; 5 epochs of warm-up; ×0.97 every 2.4 epochs, so two steps of the stairs are gone at 5.
    assert rates([0, 250, 499, 500, 719, 720]) == pytest.approx(
        [0.0, 0.128, 0.256 * 499 / 500, 0.256 * 0.97**2, 0.256 * 0.97**2, 0.256 * 0.97**3], rel=1e-6
    )


def test_the_golden_rates(golden):
    expected = np.load(golden / "official_training.npz")["lr"]
    got = rates(range(8), batch_size=16, steps_per_epoch=2.0, total_steps=8, warmup_epochs=1.0)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_after_the_warm_up_imagenet_s_rates_are_those_of_tensorflow_s_staircase():
    per_epoch = 1_256_144 / 4096  # no whole number of steps
    decay = tf.keras.optimizers.schedules.ExponentialDecay(0.256, 2.4 * per_epoch, 0.97, staircase=True)
    steps = np.random.default_rng(0).integers(5 * per_epoch + 1, 350 * per_epoch, 50).tolist()
    got = rates(steps, steps_per_epoch=per_epoch, total_steps=int(350 * per_epoch))
    np.testing.assert_allclose(got, [decay(step) for step in steps], rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("cosine", [1.0, 0.5, 0.0]), ("linear", [1.0, 0.5, 0.0]), ("constant", [1.0, 1.0, 1.0])],
)
def test_the_other_kinds(kind, expected):
    got = rates([0, 500, 1000], kind=kind, base_rate=1.0, reference_batch=0, warmup_epochs=0.0)
    assert got == pytest.approx(expected, abs=1e-7)


def test_warm_up_in_steps_and_a_floor():
    got = rates([0, 5, 10, 1000], kind="linear", base_rate=1.0, reference_batch=0, warmup_epochs=0.0, warmup_steps=10,
                end_rate=0.1)  # fmt: skip
    assert got == pytest.approx([0.0, 0.5, 0.99, 0.1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "step"}, "unknown schedule 'step'; known schedules: exponential, cosine, linear, constant"),
        ({"warmup_steps": 3}, "one of warmup_epochs and warmup_steps must be 0"),
        ({"base_rate": -1.0}, "schedule.base_rate must not be negative, got -1.0"),
        ({"decay_epochs": 0.0}, "needs decay_epochs above 0"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        rates([0], **fields)
