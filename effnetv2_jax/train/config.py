"""The configuration of a run: the parts' own configurations, composed."""

import dataclasses
import json
from typing import Any

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.model.specs import ModelSpec, get_spec
from effnetv2_jax.train.recipe.losses import LossConfig
from effnetv2_jax.train.recipe.optimizer import OptimizerConfig
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig
from effnetv2_jax.train.run.checkpoint import CheckpointConfig

WEIGHTS_TO_NAME = "<weights>"
"""An `init_from` that the user has to replace."""


@dataclasses.dataclass
class ModelConfig:
    """Which network. `width` and `depth` multiply the variant's; a None or "" takes the variant's own value.

    `remat` names rows of blocks whose activations are computed again in the backward pass: less memory, more time.
    """

    variant: str = "efficientnetv2-b0"
    width: float = 1.0
    depth: float = 1.0
    dtype: str = "float32"
    padding: str = ""
    bn_momentum: float | None = None
    bn_epsilon: float | None = None
    bn_group_size: int = 0
    remat: tuple[int, ...] = ()

    def spec(self) -> ModelSpec:
        """Returns the architecture."""
        return get_spec(self.variant).scaled(self.width, self.depth)


@dataclasses.dataclass
class EvaluationConfig:
    """When and how the evaluation split is run over. Sizes of 0 mean the variant's and the training batch's.

    `weights` names the ones whose top-1 the run reports and keeps the best checkpoint by: `averaged` or `raw`.
    """

    every_epochs: float = 1.0
    image_size: int = 0
    batch_size: int = 0
    weights: str = "averaged"


@dataclasses.dataclass
class TrainConfig:
    """A run. Durations are in epochs; `steps` above 0 takes the place of `epochs`, which makes at least `min_steps`.

    `batch_size` is global, over all devices of all processes. `accumulation_steps` is the number of microbatches that a
    step goes through in turn, or `auto`, the smallest that fits a device's memory at each stage; BatchNorm then
    normalises at most a microbatch. `device_memory_gib` is what a program may take, 0 what there is. `platform` (`tpu`,
    `gpu`, `cpu`, or `accelerator` for anything but a CPU) refuses to run on another one. `init_from` starts from the
    weights of a file or folder, of the kind `init_source`, with a new classifier where the number of classes differs.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    progressive: ProgressiveConfig = dataclasses.field(default_factory=ProgressiveConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    batch_size: int = 4096
    accumulation_steps: str = "1"
    device_memory_gib: float = 0.0
    epochs: float = 350.0
    min_steps: int = 0
    steps: int = 0
    ema_decay: float = 0.9999
    seed: int = 0
    log_every_steps: int = 100
    platform: str = ""
    init_from: str = ""
    init_source: str = "official"
    compilation_cache: str = "~/.cache/effnetv2_jax/compiled"
    debug: bool = False


# Fields that may differ when a run is resumed: they change what is seen or where things lie, not what is learnt.
FREE_FIELDS = frozenset(
    {"log_every_steps", "platform", "compilation_cache", "debug", "checkpoint.keep", "evaluation.batch_size"}
    | {"data.data_dir", "data.threads", "data.memory_gb", "data.max_broken"}
)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns a config's fields as dotted names → plain JSON values."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, name + ".")
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def to_json(config: TrainConfig) -> str:
    """Returns the config as JSON, one field a line."""
    return json.dumps(flatten(config), indent=1) + "\n"


def differences(config: TrainConfig, saved: str) -> list[str]:
    """Returns `field: saved → now` for each field that sets the run apart from the one that saved its config."""
    now, then = flatten(config), json.loads(saved)
    names = sorted((now.keys() | then.keys()) - FREE_FIELDS)
    missing = "not there"
    return [
        f"{name}: {then.get(name, missing)!r} → {now.get(name, missing)!r}"
        for name in names
        if now.get(name, missing) != then.get(name, missing)
    ]
