"""A check of a config before anything slow begins: TensorFlow's import, the data set, compiling."""

from __future__ import annotations

import jax

from effnetv2_jax.data.config import DataConfig, DatasetInfo
from effnetv2_jax.data.config import check_config as check_data_config
from effnetv2_jax.data.dataset import recorded_info
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.devices.platform import require_platform

_EXAMPLES = 1 << 40  # of a data set whose size is not known before it is opened: enough for any batch


def check_early(config: TrainConfig) -> None:
    """Checks all that can be known of a config without its data set, in about a second.

    Call it after the processes of a run have joined.

    Raises:
      ValueError: for a field that is out of range or does not fit the others; the message says what is allowed.
      RuntimeError: if JAX has not found the platform that the config requires.
    """
    require_platform(config.platform)
    check_data_config(config.data)
    info = recorded_info(config.data) or _assumed_info(config.data)
    make_experiment(config, jax.device_count(), jax.process_count(), info)


def _assumed_info(config: DataConfig) -> DatasetInfo:
    return DatasetInfo(2, _EXAMPLES, 1, ("0", "1"), f"{config.dataset}, not opened", multi_hot=False)
