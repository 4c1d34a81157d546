"""The changes between a run's config and that of a new start: which are found, allowed and refused."""

import pytest

from effnetv2_jax.train.run_folder.changes import Change, ChangeRules, changed_fields, check_accepted, check_changes

RULES = ChangeRules(
    free=frozenset({"threads"}),
    on_request=frozenset({"optimizer.base_rate", "optimizer.clip_norm", "ema_decay"}),
    above_zero=frozenset({"ema_decay"}),
)
KNOWN = {"threads", "optimizer.base_rate", "optimizer.clip_norm", "ema_decay", "seed", "batch_size"}


def check(*accepted, **changes):
    check_changes({name.replace("__", "."): Change(*values) for name, values in changes.items()}, RULES, accepted, "D")


def test_changes_are_found_by_field():
    saved, now = {"seed": 0, "sizes": [17], "gone": 5}, {"seed": 1, "sizes": [17], "new": 3, "default": 2}
    changes = changed_fields(saved, now, {"new": 2, "default": 2})
    assert changes == {"gone": (5, "missing"), "new": (2, 3), "seed": (0, 1)}


def test_a_change_is_described_as_the_field_is_written():
    assert Change([], [0]).described("model.remat") == "model.remat: () → (0,)"
    assert Change("", "tpu").described("platform") == "platform: '' → 'tpu'"


def test_free_fields_change_without_a_word():
    check(threads=(0, 8))


def test_other_changes_are_refused_with_both_values():
    with pytest.raises(ValueError, match=r"^D contains .*Changed: batch_size: 32 → 64; seed: 0 → 1\. Use") as error:
        check(batch_size=(32, 64), seed=(0, 1), threads=(0, 8))
    assert "threads" not in str(error.value)
    assert "--accept-changes" not in str(error.value)


def test_a_refusal_names_the_flag_that_would_accept_the_changes():
    with pytest.raises(ValueError, match=r"--accept-changes optimizer\.base_rate,optimizer\.clip_norm changes the run"):
        check(optimizer__base_rate=(1, 2), optimizer__clip_norm=(0, 1))
    with pytest.raises(ValueError, match=r"of these, only --accept-changes optimizer\.base_rate is possible"):
        check(optimizer__base_rate=(1, 2), seed=(0, 1))


def test_only_the_fields_that_are_named_are_accepted():
    check("optimizer.base_rate", optimizer__base_rate=(1, 2))
    with pytest.raises(ValueError, match=r"Changed: optimizer\.clip_norm: 0 → 1"):
        check("optimizer.base_rate", optimizer__base_rate=(1, 2), optimizer__clip_norm=(0, 1))
    with pytest.raises(ValueError, match="Changed: seed: 0 → 1"):
        check("seed", seed=(0, 1))


def test_averages_cannot_begin_or_cease():
    check("ema_decay", ema_decay=(0.9, 0.99))
    for values in ((0.0, 0.9), (0.9, 0.0)):
        with pytest.raises(ValueError, match="Changed: ema_decay"):
            check("ema_decay", ema_decay=values)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("optimizer.clipnorm", r"unknown field 'optimizer.clipnorm'; did you mean optimizer.clip_norm\?"),
        ("clip_norm", r"unknown field 'clip_norm'; did you mean optimizer.clip_norm\?"),
        ("zzz", "unknown field 'zzz'$"),
        ("batch_size", "batch_size cannot change within a run, because"),
        ("optimizer.base_rate", "optimizer.base_rate has not changed since the last start; .* accept: ema_decay$"),
    ],
)
def test_a_name_that_is_not_needed_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check_accepted([name], {"threads": Change(0, 8), "ema_decay": Change(0.5, 0.6)}, RULES, KNOWN, ())


def test_a_name_that_was_needed_at_an_earlier_start_may_stay():
    check_accepted(["optimizer.base_rate"], {}, RULES, KNOWN, {"optimizer.base_rate"})
