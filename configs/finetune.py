"""Fine-tuning pre-trained weights of any framework, for any variant and data set.

    effnetv2 train --config configs/finetune.py:efficientnetv2-s,tf_flowers --workdir runs/flowers \
        --config.init_from=efficientnetv2-s.in21k --config.init_framework=official

    effnetv2 train --config configs/finetune.py:efficientnetv2-b0,folder --workdir runs/mine \
        --config.data.data_dir=my_images

The argument is VARIANT,DATA SET: cifar10, cifar100, oxford_flowers102, cars196, tf_flowers, imagenet2012, or folder
(`train/<class>/*.jpg` in `data.data_dir`).

Training starts from the variant's best published weights, which are downloaded unless they are on this machine; for
imagenet2012, from those of ImageNet-21k, as far as there are any. `init_from` takes other names, files and folders:
`effnetv2 info --pretrained` lists the names. The classifier is new if the number of classes differs.

Half of the training images are mirrored, which suits photographs. For digits, letters and other images that mean
something else in a mirror, add --config.data.flip=False.

From ImageNet-1k weights, S, M and L should reach these top-1 accuracies (the paper's transfer table): 98.7, 99.0 and
99.1 % on CIFAR-10; 91.5, 92.2 and 92.3 % on CIFAR-100; 97.9, 98.5 and 98.8 % on Flowers; 93.8, 94.6 and 95.1 % on Cars.
From ImageNet-21k weights, S, M, L and XL should reach 84.9, 86.2, 86.9 and 87.2 % on imagenet2012 (google/automl). This
project itself has not run these with pre-trained weights yet.
"""

import dataclasses

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.pretrained.table import best_pretrained, list_pretrained
from effnetv2_jax.train.checkpoint.config import CheckpointConfig
from effnetv2_jax.train.config import WEIGHTS_TO_NAME, EvaluationConfig, ModelConfig, TrainConfig
from effnetv2_jax.train.recipe.losses import LossConfig
from effnetv2_jax.train.recipe.optimizer import OptimizerConfig
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig
from effnetv2_jax.train.recipe.schedule import ScheduleConfig


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """Duration, batch size and optimiser settings for a data set. With `steps` 0, `epochs` is the duration."""

    epochs: float
    steps: int
    min_steps: int
    batch_size: int
    rate: float
    kind: str
    weight_decay: float


# Source: for transfer, section 4.2 of the paper; for ImageNet, datasets.py of google/automl.
_TRANSFER = _Recipe(0.0, 10_000, 0, 512, 0.001, "cosine", 0.0)
_IMAGENET = _Recipe(15.0, 0, 10_000, 512, 0.001, "constant", 1e-5)
# This project's own settings, for a few thousand images on one device.
_SMALL = _Recipe(20.0, 0, 0, 64, 0.0005, "cosine", 0.0)

# The training of the weights to start from; the best ones of the variant otherwise.
_STARTS = {"imagenet2012": "in21k"}

_RECIPES = {
    "cifar10": _TRANSFER,
    "cifar100": _TRANSFER,
    "oxford_flowers102": _TRANSFER,
    "cars196": _TRANSFER,
    "tf_flowers": _SMALL,
    "imagenet2012": _IMAGENET,
    "folder": _SMALL,
}


def get_config(argument: str = "efficientnetv2-s,tf_flowers") -> TrainConfig:
    """Returns the configuration for VARIANT,DATA SET.

    Raises:
      ValueError: for an unknown variant or data set.
    """
    variant, _, dataset = argument.partition(",")
    if dataset not in _RECIPES:
        raise ValueError(f"unknown data set {dataset!r} to fine-tune on; the argument is VARIANT,{'|'.join(_RECIPES)}")
    recipe, spec = _RECIPES[dataset], get_spec(variant)
    return TrainConfig(
        model=ModelConfig(variant=variant, dtype="bfloat16"),
        data=DataConfig(dataset=dataset, preprocessing="finetune", augmentation="none", cutout=True),
        progressive=ProgressiveConfig(preset="custom", stages=1, image_size=(spec.eval_size,), dropout_rate=(0.0,)),
        optimizer=OptimizerConfig(
            weight_decay=recipe.weight_decay,
            schedule=ScheduleConfig(kind=recipe.kind, base_rate=recipe.rate, reference_batch=0, warmup_epochs=0.0),
        ),
        loss=LossConfig(label_smoothing=0.1),
        evaluation=EvaluationConfig(every_epochs=1.0),
        checkpoint=CheckpointConfig(every_epochs=1.0),
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        steps=recipe.steps,
        min_steps=recipe.min_steps,
        ema_decay=0.9996,
        init_from=_weights(variant, dataset),
        log_every_steps=10,  # a small data set has few steps
    )


def _weights(variant: str, dataset: str) -> str:
    """Returns the name of the weights to start from, or a placeholder if none of this variant are published."""
    wanted = f"{variant}.{_STARTS.get(dataset)}"
    return wanted if wanted in list_pretrained() else best_pretrained(variant) or WEIGHTS_TO_NAME
