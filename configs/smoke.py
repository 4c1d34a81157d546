"""A check that everything works, in a minute: a few steps of a very small network on the digits, in two stages.

    effnetv2 train --config configs/smoke.py --workdir runs/smoke

The run should reach no particular accuracy, since it trains for a few steps only.
"""

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.train.checkpoint.config import CheckpointConfig
from effnetv2_jax.train.config import EvaluationConfig, ModelConfig, TrainConfig
from effnetv2_jax.train.recipe.optimizer import OptimizerConfig
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig
from effnetv2_jax.train.recipe.schedule import ScheduleConfig


def get_config() -> TrainConfig:
    """Returns the configuration of the run."""
    return TrainConfig(
        model=ModelConfig(variant="efficientnetv2-b0", width=0.25, depth=0.1),
        data=DataConfig(dataset="digits", augmentation="randaugment", flip=False, eval_crop="whole"),
        progressive=ProgressiveConfig(
            preset="custom",
            stages=2,
            image_size=(17, 24),
            magnitude=(5.0, 10.0),
            mixup_alpha=(0.0, 0.2),
            cutmix_alpha=(0.0, 0.2),
            dropout_rate=(0.0, 0.2),
            drop_path_rate=(0.0, 0.2),
        ),
        optimizer=OptimizerConfig(
            schedule=ScheduleConfig(
                kind="cosine", base_rate=0.002, reference_batch=0, warmup_epochs=0.0, warmup_steps=2
            )
        ),
        evaluation=EvaluationConfig(every_epochs=0.0, image_size=24, batch_size=96),
        checkpoint=CheckpointConfig(every_epochs=0.2),
        batch_size=32,
        steps=12,
        ema_decay=0.9,
        log_every_steps=1,
    )
