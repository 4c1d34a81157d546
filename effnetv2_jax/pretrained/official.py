"""The TensorFlow checkpoints of the papers' authors. No checksums or sizes of them are published.

Source of addresses and accuracies: google/automl efficientnetv2/README.md @25907c2 for V2, and tensorflow/tpu
models/official/efficientnet/README.md @f59154b for V1. Source of the sizes of V2's images: the variants. Both
repositories are under Apache-2.0, and neither states a licence of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.pretrained.published_weights import IMAGENET_1K, IMAGENET_21K, Checked, PublishedWeights

_FOLDER = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientnet"
_V2_README = "google/automl efficientnetv2/README.md @25907c2"
_V1_README = "tensorflow/tpu models/official/efficientnet/README.md @f59154b"
_READ: Checked = "read in its source"
_PATTERN: Checked = "follows a pattern"

# Training → the end of an archive's name, and the preprocessing family if it is not the variant's own.
_V2_TRAININGS = {"in1k": ("", None), "in21k": ("-21k", "v2"), "in21k_ft_in1k": ("-21k-ft1k", "finetune")}
# fmt: off
_V2 = (
    # variant, top-1 by training; the README does not list the archives of B0–B3 from ImageNet-21k, the code does
    ("b0", {"in1k": 78.7, "in21k": None, "in21k_ft_in1k": None}),
    ("b1", {"in1k": 79.8, "in21k": None, "in21k_ft_in1k": None}),
    ("b2", {"in1k": 80.5, "in21k": None, "in21k_ft_in1k": None}),
    ("b3", {"in1k": 82.1, "in21k": None, "in21k_ft_in1k": None}),
    ("s", {"in1k": 83.9, "in21k": None, "in21k_ft_in1k": 84.9}),
    ("m", {"in1k": 85.2, "in21k": None, "in21k_ft_in1k": 86.2}),
    ("l", {"in1k": 85.7, "in21k": None, "in21k_ft_in1k": 86.9}),
    ("xl", {"in21k": None, "in21k_ft_in1k": 87.2}),
)
_V1 = (
    # training, folder and name of the archives, family, how the addresses are known, top-1 of B0, B1 …
    ("in1k", "ckpts/efficientnet", "legacy", _READ, (76.8, 78.8, 79.8, 81.0, 82.6, 83.2)),
    ("aa_in1k", "ckptsaug/efficientnet", "legacy", _READ, (77.3, 79.2, 80.3, 81.7, 83.0, 83.7, 84.2, 84.5)),
    ("ap_in1k", "advprop/efficientnet", "advprop", _PATTERN, (None,) * 8),
    ("ns_jft_in1k", "noisystudent/noisy_student_efficientnet", "legacy", _PATTERN, (None,) * 8),
)
# fmt: on


def official_weights() -> Iterator[PublishedWeights]:
    """Yields the rows of the official checkpoints."""
    for variant, accuracies in _V2:
        spec = VARIANTS[f"efficientnetv2-{variant}"]
        for training, top1 in accuracies.items():
            end, family = _V2_TRAININGS[training]
            yield PublishedWeights(
                name=f"{spec.name}.{training}",
                framework="official",
                address=f"{_FOLDER}/v2/{spec.name}{end}.tgz",
                eval_size=spec.eval_size,
                preprocessing=family or spec.preprocessing,
                crop=_v2_crop(family or spec.preprocessing, spec.eval_size),
                num_classes=IMAGENET_21K if training == "in21k" else IMAGENET_1K,
                top1=top1,
                top1_citation=_V2_README if top1 is not None else "",
            )
    for training, archive, family, address_is, tops in _V1:
        for number, top1 in enumerate(tops):
            spec = VARIANTS[f"efficientnet-b{number}"]
            yield PublishedWeights(
                name=f"{spec.name}.{training}",
                framework="official",
                address=f"{_FOLDER}/{archive}-b{number}.tar.gz",
                eval_size=spec.eval_size,
                preprocessing=family,
                crop=_share(spec.eval_size),
                top1=top1,
                top1_citation=_V1_README if top1 is not None else "",
                address_is=address_is,
            )


def _v2_crop(family: str, eval_size: int) -> str:
    """Returns the part of an image that the official evaluation takes. Source: its preprocess_for_eval."""
    crops = family == "legacy" or (family == "v2" and eval_size < 320)
    return _share(eval_size) if crops else "squashed"


def _share(eval_size: int) -> str:
    return f"{eval_size / (eval_size + 32):.3g}"
