"""Values that a user gives for weights."""

import pytest

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.provenance_overrides import with_overrides
from effnetv2_jax.model.provenance import Provenance

PROVENANCE = Provenance(VARIANTS["efficientnetv2-s"], 3, "same", 1e-3, preprocessing="v2", eval_size=384)


def test_what_a_user_gives_replaces_what_is_recorded():
    changed = with_overrides(PROVENANCE, class_names=("a", "b", "c"), preprocessing="legacy", eval_size=64)
    assert (changed.class_names, changed.preprocessing, changed.eval_size) == (("a", "b", "c"), "legacy", 64)
    assert with_overrides(PROVENANCE) == PROVENANCE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ("a",)}, "1 class names for 3 classes"),
        ({"preprocessing": "v9"}, "unknown preprocessing 'v9'"),
        ({"eval_size": 8}, "at least 17 px, got 8"),
    ],
)
def test_impossible_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        with_overrides(PROVENANCE, **options)
