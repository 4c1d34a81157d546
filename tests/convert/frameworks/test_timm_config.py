"""The `config.json` from which timm builds a network and its evaluation preprocessing."""

import pytest

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.frameworks.timm import TIMM
from effnetv2_jax.convert.frameworks.timm_config import timm_config
from effnetv2_jax.model.provenance import Provenance

V2 = {"mean": [128 / 255] * 3, "std": [128 / 255] * 3, "interpolation": "bilinear"}
LEGACY = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bicubic"}
SQUASH = {"crop_pct": 1.0, "crop_mode": "squash"}


def config_of(variant, **changes):
    spec = VARIANTS[variant]
    fields = {"preprocessing": spec.preprocessing, "eval_size": spec.eval_size} | changes
    provenance = Provenance(spec, 1000, spec.padding, spec.bn_epsilon, **fields)
    return timm_config(provenance, TIMM.architecture(spec))


@pytest.mark.parametrize(
    ("variant", "size", "expected"),
    [
        ("efficientnetv2-s", 384, V2 | SQUASH),
        ("efficientnetv2-m", 480, V2 | SQUASH),
        ("efficientnetv2-l", 480, V2 | SQUASH),
        ("efficientnetv2-xl", 512, V2 | SQUASH),
        ("efficientnetv2-b0", 224, LEGACY | {"crop_pct": 224 / 256, "crop_mode": "center"}),
        ("efficientnetv2-b3", 300, LEGACY | {"crop_pct": 300 / 332, "crop_mode": "center"}),
        ("efficientnet-b7", 600, LEGACY | {"crop_pct": 600 / 632, "crop_mode": "center"}),
    ],
)
def test_the_config_describes_the_evaluation_of_each_variant(variant, size, expected):
    config = config_of(variant)
    assert config["architecture"] == "tf_" + variant.replace("-", "_")
    assert config["pretrained_cfg"]["input_size"] == [3, size, size]
    got = {key: config["pretrained_cfg"][key] for key in expected}
    assert {key: pytest.approx(value) for key, value in expected.items()} == got


def test_the_v2_family_crops_below_320_pixels_and_the_finetune_family_never():
    assert config_of("efficientnetv2-s", eval_size=300)["pretrained_cfg"]["crop_mode"] == "center"
    finetuned = config_of("efficientnetv2-s", eval_size=300, preprocessing="finetune")["pretrained_cfg"]
    assert (finetuned["crop_mode"], finetuned["mean"]) == ("squash", [0.5] * 3)


def test_the_config_has_the_number_and_the_names_of_classes():
    provenance = Provenance(VARIANTS["efficientnetv2-b0"], 2, "same", 1e-3, "raw", "legacy", 224, ("cat", "dog"))
    config = timm_config(provenance, TIMM.architecture(provenance.spec))
    assert config["num_classes"] == config["pretrained_cfg"]["num_classes"] == 2
    assert config["label_names"] == ["cat", "dog"]
    assert config["num_features"] == 1280
