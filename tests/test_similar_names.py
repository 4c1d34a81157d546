"""Error messages propose names that are similar to an unknown one."""

import pytest

from effnetv2_jax.data.sources.datasets import DATASETS
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.similar_names import did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("s", VARIANTS, "; did you mean efficientnetv2-s or article-s?"),
        ("efficientnet2-b0", VARIANTS, "; did you mean efficientnetv2-b0?"),
        ("flowers102", DATASETS, "; did you mean oxford_flowers102?"),
        ("optimiser.clip_norm", ["loss.kind", "optimizer.clip_norm"], "; did you mean optimizer.clip_norm?"),
        ("kind", ["loss.kind", "schedule.kind", "kinds"], "; did you mean loss.kind or schedule.kind?"),
        ("trian", ["train", "evaluate"], "; did you mean train?"),
        ("train", ["train", "evaluate"], ""),
        ("zzz", VARIANTS, ""),
        ("", VARIANTS, ""),
    ],
)
def test_names_of_the_same_end_are_proposed_and_then_names_of_similar_spelling(name, known, expected):
    assert did_you_mean(name, known) == expected
