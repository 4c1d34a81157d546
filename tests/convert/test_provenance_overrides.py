"""Values that a user gives for weights."""

import pytest

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.provenance_overrides import override_provenance
from effnetv2_jax.model.provenance import Provenance

PROVENANCE = Provenance(VARIANTS["efficientnetv2-s"], 3, "same", 1e-3, preprocessing="v2", eval_size=384)


def test_given_values_replace_recorded_ones():
    changed = override_provenance(PROVENANCE, class_names=("a", "b", "c"), preprocessing="legacy", eval_size=64)
    assert (changed.class_names, changed.preprocessing, changed.eval_size) == (("a", "b", "c"), "legacy", 64)
    assert override_provenance(PROVENANCE) == PROVENANCE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ("a",)}, "1 class names for 3 classes"),
        ({"preprocessing": "v9"}, "unknown preprocessing 'v9'"),
        ({"eval_size": 8}, "17 px, got 8"),
    ],
)
def test_invalid_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        override_provenance(PROVENANCE, **options)
