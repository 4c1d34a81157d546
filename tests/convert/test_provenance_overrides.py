"""What a user states about weights."""

import pytest

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.provenance_overrides import with_stated
from effnetv2_jax.model.provenance import Provenance

FACTS = Provenance(VARIANTS["efficientnetv2-s"], 3, "same", 1e-3, preprocessing="v2", eval_size=384)


def test_what_a_user_states_takes_the_place_of_what_is_known():
    stated = with_stated(FACTS, class_names=("a", "b", "c"), preprocessing="legacy", eval_size=64)
    assert (stated.class_names, stated.preprocessing, stated.eval_size) == (("a", "b", "c"), "legacy", 64)
    assert with_stated(FACTS) == FACTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ("a",)}, "1 class names for 3 classes"),
        ({"preprocessing": "v9"}, "unknown preprocessing 'v9'"),
        ({"eval_size": 8}, "at least 17 px, got 8"),
    ],
)
def test_what_a_user_may_not_state(options, message):
    with pytest.raises(ValueError, match=message):
        with_stated(FACTS, **options)
