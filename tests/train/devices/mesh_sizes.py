"""A program with eight devices that runs the same steps on meshes of 1, 2, 4 and 8 of them, and prints JSON.

Arguments: number of images in a BatchNorm group, folder of the compilation cache.
"""

import json
import math
import re
import sys
import types

import jax
import numpy as np

from effnetv2_jax.cli.options.config_file import load_config
from effnetv2_jax.model.layers import BatchNorm
from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train.derivation import make_experiment
from effnetv2_jax.train.devices.sharding import batch_sharded, global_batch, make_mesh, replicate, replicated
from effnetv2_jax.train.recipe.step import make_train_step

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

GROUP, STEPS = int(sys.argv[1]), 3


def trained(experiment, devices):
    """Runs three steps of the last stage, and returns the losses, the parameters, the statistics and their averages."""
    mesh = make_mesh(jax.devices()[:devices])
    whole, divided = replicated(mesh), batch_sharded(mesh)
    stage = experiment.stages[-1]
    step = jax.jit(make_train_step(experiment.recipe, stage), in_shardings=(whole, divided), out_shardings=whole)
    state = replicate(experiment.initial_state(init_variables(experiment.model, 0)), mesh)
    random, losses = np.random.default_rng(0), []
    for _ in range(STEPS):
        size = experiment.config.batch_size
        batch = {
            "image": random.integers(0, 256, (size, stage.image_size, stage.image_size, 3), np.uint8),
            "label": random.integers(0, 10, (size,)).astype(np.int32),
        }
        state, metrics = step(state, global_batch(batch, divided))
        losses.append(float(metrics["loss"]))
    return losses, jax.device_get((state.params, state.batch_stats, state.ema_params))


def groups_that_communicate(devices, images):
    """Returns the number of devices in a group, for each collective of one normalisation, forward and backward."""
    layer, divided = BatchNorm(0.9, 1e-3, GROUP), batch_sharded(make_mesh(jax.devices()[:devices]))
    x = jax.ShapeDtypeStruct((images, 4, 4, 8), np.float32, sharding=divided)
    variables = layer.init(jax.random.key(0), np.zeros(x.shape, np.float32), train=False)

    def gradient(x):  # only of the images, because gradients of parameters are sums over all devices
        return jax.grad(lambda x: (layer.apply(variables, x, train=True, mutable=["batch_stats"])[0] ** 3).sum())(x)

    text = jax.jit(gradient, in_shardings=divided, out_shardings=divided).lower(x).compile().as_text()
    kinds = r" (all-gather|all-to-all|all-reduce|reduce-scatter|collective-permute)(-start)?\("
    return [group_size(line, devices) for line in text.splitlines() if re.search(kinds, line)]


def group_size(line, devices):
    """Returns the number of devices in a group of a collective, which XLA writes in one of three ways."""
    if found := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", line):  # mesh['a'=4,'b'=2] {'b'}
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'(\w+)'", found[2]))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(found[1])
    found = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
    return len(found[1].split(",")) if found else devices


given = types.SimpleNamespace(config="configs/smoke.py", overrides=[f"--config.model.bn_group_size={GROUP}"])
experiment = make_experiment(load_config(given), 8)
reference, report = None, {}
for devices in (1, 2, 4, 8):
    losses, state = trained(experiment, devices)
    reference = reference or (losses, state)
    differences = jax.tree.map(lambda a, b: float(np.max(np.abs(a - b))), state, reference[1])
    report[devices] = {
        "losses": losses,
        "difference": max(jax.tree.leaves(differences)),
        "communicating": groups_that_communicate(devices, experiment.config.batch_size),
    }
print(json.dumps(report))
