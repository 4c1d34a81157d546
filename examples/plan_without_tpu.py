"""Plans a training run before you pay for it: its stages and FLOPs, and its hours on a TPU that you do not have.

    python examples/plan_without_tpu.py
    python examples/plan_without_tpu.py --topology v5e-8

The first command takes seconds. The second compiles each program with the TPU compiler, which takes minutes for each
and needs `pip install 'effnetv2_jax[aot]'` on Linux. The shell does the same with
`effnetv2 plan --config imagenet1k:efficientnetv2-s --topology v5e-8`.
"""

import argparse
from collections.abc import Sequence

import jax

from effnetv2_jax.analysis.plan import Plan, experiment_on, make_plan, planned_experiment
from effnetv2_jax.analysis.topology import parse_topology
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.train.config import ModelConfig, TrainConfig
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig


def main(argv: Sequence[str] | None = None) -> Plan:
    """Prints and returns the plan of 350 epochs on ImageNet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="efficientnetv2-s", help="one that `effnetv2 info` lists")
    parser.add_argument("--topology", help="a TPU slice, such as v5e-8, v4-32 or v5e:2x4")
    arguments = parser.parse_args(argv)

    jax.config.update("jax_platforms", "cpu")  # the plan needs no accelerator
    config = TrainConfig(
        model=ModelConfig(arguments.variant, dtype="bfloat16", bn_group_size=1024),
        data=DataConfig("imagenet2012"),
        progressive=ProgressiveConfig("official"),
        batch_size=4096,
        epochs=350.0,
        accumulation_steps="auto",  # as many microbatches as the memory needs
    )
    topology = parse_topology(arguments.topology) if arguments.topology else None
    experiment = experiment_on(config, topology) if topology else planned_experiment(config, 1)
    plan = make_plan(experiment, topology, report=print)
    for program in plan.programs:
        gflops = program.flops_per_image / 1e9
        print(f"{program.name}: {program.image_size} px, {program.steps:,} steps, {gflops:.2f} GFLOPs an image")
    if topology and plan.fits:
        print(f"{plan.hours:.1f} hours on {topology.name}, by the TPU compiler's estimate")
    return plan


if __name__ == "__main__":
    main()
