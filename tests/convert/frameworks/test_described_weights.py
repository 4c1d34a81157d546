"""What is understood of the `config.json` that timm writes."""

import pytest

from effnetv2_jax.convert.frameworks.timm import TIMM

IMAGENET = [0.485, 0.456, 0.406]


def config_of(architecture="tf_efficientnetv2_s", *, flat=False, **fields):
    cfg = {"input_size": [3, 300, 300], "test_input_size": [3, 384, 384], "mean": [0.5] * 3, "crop_pct": 1.0} | fields
    return {"architecture": architecture} | (cfg if flat else {"pretrained_cfg": cfg})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("finetune", 384, "whole")),
        ({"flat": True}, ("finetune", 384, "whole")),
        ({"crop_pct": 0.9, "crop_mode": "squash"}, ("finetune", 384, "whole")),
        ({"crop_pct": 0.9}, ("advprop", 384, "centre")),
        ({"mean": IMAGENET, "crop_pct": 0.875, "test_input_size": None}, ("legacy", 300, "centre")),
    ],
)
def test_the_closest_preprocessing_is_taken(fields, expected):
    described = TIMM.folder_description(config_of(**fields))
    assert described.variant == "efficientnetv2-s"
    assert (described.preprocessing, described.eval_size, described.eval_crop) == expected


@pytest.mark.parametrize(
    "config", [{}, config_of("efficientnetv2_rw_s"), config_of() | {"model_args": {"depth_multiplier": 2}}]
)
def test_other_networks_are_not_described(config):
    assert TIMM.folder_description(config) is None


@pytest.mark.parametrize(
    "fields",
    [{"input_size": [], "test_input_size": None}, {"mean": 1}, {"mean": ["x"]}, {"test_input_size": [3, 9, 9]}],
)
def test_a_hostile_config_is_refused(fields):
    with pytest.raises(ValueError, match=r"config\.json"):
        TIMM.folder_description(config_of(**fields))
    with pytest.raises(ValueError, match=r"config\.json"):
        TIMM.folder_description({"architecture": "tf_efficientnetv2_s", "pretrained_cfg": 3})
