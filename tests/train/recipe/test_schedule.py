"""Learning rates by step."""

import keras
import numpy as np
import pytest

from effnetv2_jax.train.recipe.schedule import ScheduleConfig, make_schedule


def rates(steps, *, batch_size=4096, steps_per_epoch=100.0, total_steps=1000, **fields):
    schedule = make_schedule(
        ScheduleConfig(**fields), batch_size=batch_size, steps_per_epoch=steps_per_epoch, total_steps=total_steps
    )
    return [float(schedule(step)) for step in steps]


def test_the_official_schedule_warms_up_and_then_decays_in_steps():
    # After 5 epochs of warm-up, the rate would be 4096 / 256 · 0.016 = 0.256. But it is multiplied by 0.97 every 2.4
    # epochs from step 0 on, which has happened twice by then.
    assert rates([0, 250, 499, 500, 719, 720]) == pytest.approx(
        [0.0, 0.128, 0.256 * 499 / 500, 0.256 * 0.97**2, 0.256 * 0.97**2, 0.256 * 0.97**3], rel=1e-6
    )


def test_rates_equal_those_of_the_official_steps(golden):
    expected = np.load(golden / "official_training.npz")["lr"]
    got = rates(range(8), batch_size=16, steps_per_epoch=2.0, total_steps=8, warmup_epochs=1.0)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_imagenet_rates_after_the_warm_up_equal_the_staircase_of_tensorflow():
    per_epoch = 1_256_144 / 4096  # not a whole number of steps
    decay = keras.optimizers.schedules.ExponentialDecay(0.256, 2.4 * per_epoch, 0.97, staircase=True)
    steps = np.random.default_rng(0).integers(5 * per_epoch + 1, 350 * per_epoch, 50).tolist()
    got = rates(steps, steps_per_epoch=per_epoch, total_steps=int(350 * per_epoch))
    np.testing.assert_allclose(got, [decay(step) for step in steps], rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("cosine", [1.0, 0.5, 0.0]), ("linear", [1.0, 0.5, 0.0]), ("constant", [1.0, 1.0, 1.0])],
)
def test_cosine_linear_and_constant_schedules(kind, expected):
    got = rates([0, 500, 1000], kind=kind, base_rate=1.0, reference_batch=0, warmup_epochs=0.0)
    assert got == pytest.approx(expected, abs=1e-7)


def test_warm_up_in_steps_and_an_end_rate():
    got = rates([0, 5, 10, 1000], kind="linear", base_rate=1.0, reference_batch=0, warmup_epochs=0.0, warmup_steps=10,
                end_rate=0.1)  # fmt: skip
    assert got == pytest.approx([0.0, 0.5, 0.99, 0.1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"warmup_steps": 3}, "warmup_epochs and warmup_steps"),
        ({"base_rate": -1.0}, "schedule.base_rate must be .* at least 0, got -1.0"),
        ({"decay_epochs": 0.0}, "decay_epochs above 0"),
    ],
)
def test_values_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        rates([0], **fields)
