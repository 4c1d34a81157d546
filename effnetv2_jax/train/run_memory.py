"""The check of a run's host memory, before anything is compiled."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax

from effnetv2_jax.data.dataset import open_source
from effnetv2_jax.data.host_rows import host_rows
from effnetv2_jax.data.memory.host_memory import HostMemory, Pipeline, check_host_memory, evaluation_pipeline
from effnetv2_jax.train.checkpoint.storage import state_bytes
from effnetv2_jax.train.experiment import Experiment


def check_run_memory(experiment: Experiment, reserved: Mapping[str, int] | None = None) -> HostMemory:
    """Checks that all stages of a run and its evaluation fit into the memory of this host.

    The memory that is available now decides. It is not measured again while the run goes on.

    Args:
      experiment: the run.
      reserved: what else the run holds in host memory → its bytes; None for a copy of the state, which a checkpoint is
        written from.

    Raises:
      ValueError: if a stage or the evaluation does not fit; the message names it and says what would fit.
    """
    config, hosts = experiment.config, jax.process_count()
    parts = config.data.parts
    read = host_rows(config.batch_size, parts, jax.process_index(), hosts).parts
    return check_host_memory(
        config.data,
        [open_source(config.data, evaluation=False, host_index=part, host_count=parts) for part in read],
        [
            Pipeline(f"stage {stage.index + 1}", stage.image_size, config.batch_size, hosts)
            for stage in experiment.stages
        ],
        evaluation_pipeline(experiment.eval_size, experiment.eval_batch_size, hosts),
        reserved={"a copy of the state": state_bytes(experiment.abstract_state())} if reserved is None else reserved,
        divisor=math.lcm(jax.device_count(), hosts, parts),
    )
