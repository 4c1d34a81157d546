"""Which part of an image evaluation looks at."""

import pytest

from effnetv2_jax.data.families import FAMILIES


@pytest.mark.parametrize(
    ("family", "size", "eval_crop", "cropped"),
    [("v2", 224, "", True), ("v2", 320, "", False), ("v2", 32, "whole", False), ("v2", 384, "centre", True),
     ("finetune", 224, "", False), ("legacy", 600, "", True)],
)  # fmt: skip
def test_the_family_s_rule_holds_unless_a_config_says_otherwise(family, size, eval_crop, cropped):
    assert FAMILIES[family].crops_in_evaluation(size, eval_crop) == cropped
