"""Programs compiled for slices that this machine does not have."""

import jax
import pytest

from effnetv2_jax.analysis.program_cost import program_cost
from effnetv2_jax.analysis.topology import make_mesh, parse_topology
from effnetv2_jax.model.variables import variable_shapes
from effnetv2_jax.train.config import ModelConfig, TrainConfig
from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.programs import train_program
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig


@pytest.mark.parametrize("name", ["v5e:4x4", pytest.param("v4-32", marks=pytest.mark.slow), "2xv5e-8"])
def test_batch_norm_sums_stay_inside_their_groups(name):
    """With 4 images on each of 16 chips, a group of 16 images spans 4 chips, in the forward and the backward pass."""
    config = TrainConfig(
        model=ModelConfig("efficientnetv2-b0", width=0.25, depth=0.1, bn_group_size=16),
        progressive=ProgressiveConfig(preset="custom", stages=1, image_size=(32,)),
        batch_size=64,
        steps=1,
    )
    config.data.dataset = "digits"
    topology = parse_topology(name)
    experiment = make_experiment(config, topology.devices)
    cost = program_cost(train_program(experiment, experiment.stages[0], make_mesh(topology)), topology, cache="")
    norms = sum(path[-1].key == "mean" for path, _ in jax.tree.leaves_with_path(variable_shapes(experiment.model)))
    assert norms == 16
    assert cost.all_reduce_groups["4"] >= 2 * norms - 1  # the backward pass of the stem needs only one of its two sums
    # The other all-reduces sum gradients over all chips, or over the groups after a sum within each group.
    rest = sum(count for size, count in cost.all_reduce_groups.items() if size != "4")
    assert 1 <= rest <= 3
    assert (cost.dcn_transfers > 0) == (topology.slices > 1)
