"""ImageNet-21k pre-training, for any variant.

    effnetv2 train --config configs/imagenet21k.py:efficientnetv2-l --workdir gs://bucket/runs/l-21k \
        --config.data.data_dir=gs://bucket/imagenet21k

The run has a single stage of 60 epochs at 224 px, without augmentation. An image may have several classes; its labels
are normalised to the sum 1, or treated as independent with `--config.loss.kind=sigmoid`.
Source: google/automl efficientnetv2/datasets.py, Imagenet21k.

After fine-tuning on ImageNet-1k (configs/finetune.py), the weights should reach these top-1 accuracies: S 84.9 %,
M 86.2 %, L 86.9 %, XL 87.2 % (google/automl). This project itself has not trained on ImageNet-21k yet.
"""

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.train.checkpoint.config import CheckpointConfig
from effnetv2_jax.train.config import EvaluationConfig, ModelConfig, TrainConfig
from effnetv2_jax.train.recipe.losses import LossConfig
from effnetv2_jax.train.recipe.optimizer import OptimizerConfig
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig
from effnetv2_jax.train.recipe.schedule import ScheduleConfig


def get_config(argument: str = "efficientnetv2-s") -> TrainConfig:
    """Returns the configuration for a variant."""
    return TrainConfig(
        model=ModelConfig(variant=argument, dtype="bfloat16", bn_momentum=0.9, bn_group_size=1024),
        data=DataConfig(dataset="imagenet21k", augmentation="none", parts=0),
        progressive=ProgressiveConfig(
            preset="custom", stages=1, image_size=(224,), dropout_rate=(0.0,), drop_path_rate=(0.0,)
        ),
        optimizer=OptimizerConfig(schedule=ScheduleConfig(kind="cosine", base_rate=0.008, warmup_epochs=1.0)),
        loss=LossConfig(kind="multi_hot"),
        evaluation=EvaluationConfig(every_epochs=5.0, image_size=224),
        checkpoint=CheckpointConfig(every_epochs=0.25),
        batch_size=4096,
        accumulation_steps="auto",  # BatchNorm's groups stay whole, so that the numbers are the same
        epochs=60.0,
        platform="accelerator",
    )
