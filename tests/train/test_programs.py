"""The programs of a run."""

import numpy as np
from train.smoke import smoke_config

from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.devices.sharding import make_mesh
from effnetv2_jax.train.programs import constants_of, train_program


def test_runs_that_differ_only_in_their_seeds_share_their_programs():
    texts, constants = [], []
    for seed in (0, 7, 2**32 + 1):
        experiment = make_experiment(smoke_config(f"--config.seed={seed}", "--config.batch_size=4"), 2)
        program = train_program(experiment, experiment.stages[1], make_mesh())
        texts.append(program.lower().as_text())
        constants += constants_of(experiment)
    assert constants == [0, 7, 1]
    assert {value.dtype for value in constants} == {np.dtype(np.uint32)}
    assert len(set(texts)) == 1
