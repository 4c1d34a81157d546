"""ImageNet-1k from scratch, with the published progressive learning, for any variant.

    effnetv2 train --config configs/imagenet1k.py:efficientnetv2-s --workdir gs://bucket/runs/s \
        --config.data.data_dir=gs://bucket/tensorflow_datasets

The argument is VARIANT[,official|paper]: the stages of the official code (the default) or of the paper's Table 6.

The averaged weights should reach these top-1 accuracies on the validation split: S 83.9 %, M 85.2 % and L 85.7 % (the
paper's Table 7, after 7.1, 13 and 24 hours on 32 TPU v3 cores); B0 78.7 %, B1 79.8 %, B2 80.5 % and B3 82.1 %
(google/automl). Other users of the official code report 83.46 % for S and 84.46 % for M. This project itself has not
trained on ImageNet yet.
"""

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.train.config import EvaluationConfig, ModelConfig, TrainConfig
from effnetv2_jax.train.recipe.progressive import PRESETS, ProgressiveConfig


def get_config(argument: str = "efficientnetv2-s") -> TrainConfig:
    """Returns the configuration for VARIANT[,PRESET].

    Raises:
      ValueError: for an unknown variant or preset.
    """
    variant, _, preset = argument.partition(",")
    preset = preset or "official"
    if preset not in PRESETS:
        raise ValueError(f"unknown progressive preset {preset!r}; known presets: official, paper")
    spec = get_spec(variant)
    augmentation = "autoaugment" if spec.preprocessing == "legacy" else "randaugment"
    # BatchNorm: the official code normalises over groups of up to 8 cores, which is 1024 images with this batch size.
    # Its momentum is 0.9; the paper's is 0.99.
    return TrainConfig(
        model=ModelConfig(
            variant=variant,
            dtype="bfloat16",
            bn_momentum=0.99 if preset == "paper" else 0.9,
            bn_group_size=1024,
        ),
        data=DataConfig(
            dataset="imagenet2012",
            preprocessing=spec.preprocessing,
            augmentation=augmentation,
            parts=0,  # no host reads what others read
        ),
        progressive=ProgressiveConfig(preset=preset),
        evaluation=EvaluationConfig(every_epochs=10.0, batch_size=1024),
        batch_size=4096,
        accumulation_steps="auto",  # BatchNorm's groups stay whole, so that the numbers are the same
        epochs=350.0,
        platform="accelerator",
    )
