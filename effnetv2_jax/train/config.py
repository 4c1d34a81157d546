"""The configuration of a run, composed of the configurations of its parts."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal

from effnetv2_jax.config_fields import check_choices, check_types, config_fields
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.model.spec_file import spec_text
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variants import VARIANTS, get_spec
from effnetv2_jax.train.checkpoint.config import CheckpointConfig
from effnetv2_jax.train.recipe.distillation import DistillationConfig
from effnetv2_jax.train.recipe.losses import LossConfig
from effnetv2_jax.train.recipe.optimizer import OptimizerConfig
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig
from effnetv2_jax.train.recipe.schedule import ScheduleConfig

WEIGHTS_TO_NAME = "<weights>"
"""The placeholder for `init_from` in a config whose user has to name the weights."""


@dataclasses.dataclass
class ModelConfig:
    """The network.

    Attributes:
      variant: name of an architecture, which `effnetv2 info` lists, or a file with a spec, as in found.json.
      width: factor by which the variant's widths are multiplied.
      depth: factor by which the variant's depths are multiplied.
      dtype: dtype of the activations.
      padding: `same` as in TensorFlow, `symmetric` as in PyTorch, or "" for the variant's own.
      bn_momentum: share of the old moving average that BatchNorm keeps at each step; None for the variant's own.
      bn_epsilon: added to BatchNorm's variance; None for the variant's own.
      bn_group_size: images that BatchNorm normalises together in training; 0 for the whole batch or microbatch.
      fast_tpu_gradients: whether training computes MBConv with hand-written gradients, which take fewer passes over
        large arrays on a TPU. Results change by rounding.
      remat: rows of blocks whose activations are computed again in the backward pass, which takes less memory and more
        time.
    """

    variant: str = "efficientnetv2-b0"
    width: float = 1.0
    depth: float = 1.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    padding: Literal["", "same", "symmetric"] = ""
    bn_momentum: float | None = None
    bn_epsilon: float | None = None
    bn_group_size: int = 0
    fast_tpu_gradients: bool = False
    remat: tuple[int, ...] = ()

    def spec(self) -> ModelSpec:
        """Returns the architecture."""
        return get_spec(self.variant).scaled(self.width, self.depth)

    def with_spec(self, spec: str | ModelSpec) -> "ModelConfig":
        """Returns the same settings for another architecture, which is neither widened nor deepened.

        Args:
          spec: the architecture, or the text of one, see `get_spec`.
        """
        variant: Any = spec  # `spec()` takes both
        return dataclasses.replace(self, variant=variant, width=1.0, depth=1.0)

    def without_file(self) -> "ModelConfig":
        """Returns the same network, with the content of a spec's file in place of its path.

        A run records it, so that it can be resumed and evaluated without the file, and with no other spec.
        """
        if self.variant in VARIANTS:
            return self
        return dataclasses.replace(self, variant=spec_text(get_spec(self.variant)))


@dataclasses.dataclass
class EvaluationConfig:
    """When and how the evaluation split is evaluated.

    Attributes:
      every_epochs: epochs between two evaluations; 0 for none. The run is always evaluated at its end.
      image_size: side of the images in pixels; 0 for that of the last stage with the preset `custom`, and for the
        variant's own with the others.
      batch_size: images in a step, on all devices together; 0 for the training batch size.
      weights: the weights whose accuracy the run reports and chooses the best checkpoint by.
      fold_batch_norm: whether BatchNorm is folded into the kernels before the images are classified. The logits differ
        by rounding, and the evaluation is faster on some devices.
    """

    every_epochs: float = 1.0
    image_size: int = 0
    batch_size: int = 0
    weights: Literal["averaged", "raw"] = "averaged"
    fold_batch_norm: bool = False


@dataclasses.dataclass
class TrainConfig:
    """A run.

    Attributes:
      model: the network.
      data: the images, and how they become batches.
      progressive: the stages.
      optimizer: how gradients become updates.
      loss: the loss.
      distillation: the teacher that the run learns from, if it has one.
      evaluation: when and how the run evaluates.
      checkpoint: when the run saves.
      batch_size: images in a step, on all devices of all processes together.
      accumulation_steps: microbatches that a step processes one after another, or `auto`: microbatches of 128 images on
        each device, if the batch can be divided so, or the largest that fit the devices' memory. BatchNorm normalises
        at most a microbatch.
      tuning: how each program is compiled: `auto` as a tuning of the project's own says, if there is one for the same
        network, image size and TPU, within what `accumulation_steps` and `model.remat` allow; `none` without one; or a
        file of `effnetv2 tune`, which replaces `accumulation_steps` and `model.remat`.
      device_memory_gib: memory that a program may use on each device, in GiB; 0 for all that the device has.
      epochs: length of the run in epochs.
      min_steps: lowest number of steps in the run, if `epochs` gives fewer.
      steps: length of the run in steps; above 0 it replaces `epochs` and `min_steps`.
      ema_decay: highest decay of the moving averages over the weights; 0 keeps no averages.
      seed: seed of all random numbers.
      log_every_steps: steps between two rows of training metrics.
      tracker: `wandb` or `trackio`, a program that also gets the metrics; "" for none.
      tracker_project: the project in which the tracker shows the run.
      grace_seconds: seconds from a signal to the end of the process; Cloud TPU leaves about 10 before it takes a
        machine away.
      stall_minutes: minutes without progress after which the processes of a run stop, if there are several, since one
        of them hangs; 0 for never.
      platform: the platform that the run needs to start; `accelerator` for any but a CPU, "" for any.
      init_from: weights to start from: a file or folder, `gs://…`, `hf://OWNER/REPOSITORY`, or the name of published
        weights, such as `efficientnetv2-s.in21k_ft_in1k`; "" for fresh weights. If the number of classes differs, the
        classifier is fresh.
      init_framework: the framework of those weights; "" to find it from the file or the name.
      compilation_cache: folder that keeps compiled programs between runs, a path or `gs://…`; "" for none.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    progressive: ProgressiveConfig = dataclasses.field(default_factory=ProgressiveConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    distillation: DistillationConfig = dataclasses.field(default_factory=DistillationConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    batch_size: int = 4096
    accumulation_steps: str = "1"
    tuning: str = "auto"
    device_memory_gib: float = 0.0
    epochs: float = 350.0
    min_steps: int = 0
    steps: int = 0
    ema_decay: float = 0.9999
    seed: int = 0
    log_every_steps: int = 100
    tracker: Literal["", "wandb", "trackio"] = ""
    tracker_project: str = "effnetv2"
    grace_seconds: float = 10.0
    stall_minutes: float = 30.0
    platform: Literal["", "accelerator", "tpu", "gpu", "cpu"] = ""
    init_from: str = ""
    init_framework: str = ""
    compilation_cache: str = "~/.cache/effnetv2_jax/compiled"


FREE_FIELDS = frozenset(
    # They change neither the numbers of a step nor the order of the images.
    {"log_every_steps", "tracker", "tracker_project", "grace_seconds", "stall_minutes", "platform", "compilation_cache"}
    | {"checkpoint.every_epochs", "checkpoint.keep", "checkpoint.tries"}
    | {"evaluation.every_epochs", "evaluation.batch_size", "evaluation.fold_batch_norm"}
    | {"data.data_dir", "data.threads", "data.memory_gb", "data.max_broken"}
    # They change the numbers of a step by rounding at most; with accumulation_steps "auto", the microbatches too.
    | {"model.remat", "device_memory_gib"}
    # It decides when the run stops. With 0, steps are another program than with any other value, and round otherwise.
    | {"optimizer.max_bad_steps"}
    # The length of the run, as long as the steps that are done still lie within.
    | {"epochs", "min_steps", "steps"}
)
"""Fields that may change whenever a run is resumed."""

FIELDS_ON_REQUEST = frozenset(
    # The optimiser's state has the same arrays for all values; see `ABOVE_ZERO_FIELDS` for the exception.
    {f"optimizer.schedule.{field.name}" for field in dataclasses.fields(ScheduleConfig)}
    | {f"optimizer.{name}" for name in ("momentum", "decay", "epsilon", "weight_decay", "clip_norm")}
    | {f"optimizer.{name}" for name in ("layer_decay", "head_rate")}
    | {"distillation.weight", "distillation.temperature"}
    | {"loss.kind", "loss.label_smoothing", "ema_decay"}
    # The regularisation: an image's random numbers follow from the seed, the epoch and its name.
    | {f"progressive.{name}" for name in ("magnitude", "mixup_alpha", "cutmix_alpha", "dropout_rate", "drop_path_rate")}
    | {f"data.{name}" for name in ("augmentation", "operations", "layers", "size_relative", "cutout")}
    | {f"data.{name}" for name in ("min_crop_area", "flip", "scaled_decoding")}
    # Activations and BatchNorm's batches: a state holds neither.
    | {"model.dtype", "model.bn_momentum", "model.bn_group_size", "accumulation_steps", "tuning"}
    | {"model.fast_tpu_gradients"}
)
"""Fields that may change from a step on if the user names them.

They change what the run learns, but neither the names and shapes of its state nor the order of its images.
"""

ABOVE_ZERO_FIELDS = frozenset({"ema_decay", "optimizer.momentum"})
"""Fields on request that may not change from or to 0, since the state then has no averages or no momentum."""


def flatten(config: Any) -> dict[str, Any]:
    """Returns a config's fields by dotted name, as JSON values."""
    fields = config_fields(config)
    return {field.name: list(field.value) if isinstance(field.value, tuple) else field.value for field in fields}


def unflatten(fields: Any) -> TrainConfig:
    """Returns the config that `flatten` was given, as JSON gives it. Fields that are missing keep their defaults.

    Raises:
      ValueError: unless these are fields of a configuration with values of their types; the message names the field.
    """
    if not isinstance(fields, Mapping):
        raise ValueError("a run's configuration must be one object of fields and values")
    config = TrainConfig()
    known = flatten(config)
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"unknown field {name!r} of a run's configuration")
        *parents, field = name.split(".")
        owner = functools.reduce(getattr, parents, config)
        setattr(owner, field, tuple(value) if isinstance(value, list) else value)
    check_types(config)
    return config


def check_config(config: TrainConfig) -> None:
    """Checks the fields that can be checked without any other.

    Raises:
      ValueError: if one is out of range; the message names it, its value and what is allowed.
    """
    check_choices(config)
    least = {
        "batch_size": 1, "device_memory_gib": 0, "epochs": 0, "min_steps": 0, "steps": 0, "ema_decay": 0,
        "log_every_steps": 1, "evaluation.every_epochs": 0, "evaluation.image_size": 0, "evaluation.batch_size": 0,
        "checkpoint.every_epochs": 0, "checkpoint.keep": 1, "checkpoint.tries": 1,
        "grace_seconds": 1, "stall_minutes": 0, "model.bn_group_size": 0, "optimizer.max_bad_steps": 0,
    }  # fmt: skip
    for name, minimum in least.items():
        value = functools.reduce(getattr, name.split("."), config)
        if not minimum <= value < math.inf:  # type: ignore[operator]
            raise ValueError(f"{name} must be at least {minimum}, got {value}")
    if not config.tuning:
        raise ValueError("tuning must be 'auto', 'none' or a file of `effnetv2 tune`, got ''")
    if config.ema_decay >= 1:
        raise ValueError(f"ema_decay must be less than 1, got {config.ema_decay}")
