"""A small search: its settings, and results without training."""

import dataclasses

from effnetv2_jax import VARIANTS
from effnetv2_jax.cli.options.own_configs import own_configs
from effnetv2_jax.model.spec_file import spec_text
from effnetv2_jax.search.results import Proposal, Result
from effnetv2_jax.search.settings import SearchSettings
from effnetv2_jax.train.config import flatten

BASE = VARIANTS["efficientnet-b0"].scaled(width=0.25, depth=0.1)


def smoke_fields(**changes):
    import runpy

    config = runpy.run_path(str(own_configs()["smoke"]))["get_config"]()
    return flatten(dataclasses.replace(config, compilation_cache="", **changes))


def settings(**changes):
    """Returns the settings of a search of four candidates on configs/smoke.py."""
    values = {"config": smoke_fields(), "base": spec_text(BASE), "samples": 4, "population": 4, "stop_below": 0.0}
    return SearchSettings(**(values | changes))


def result(number=0, top1=50.0, step_seconds=0.01, parameters=10**6, **changes):
    """Returns the result of a candidate, or with the number -1 of a network to compare with."""
    spec = dataclasses.replace(BASE, name=f"candidate {number}")
    return Result(Proposal(number, {}), spec_text(spec), step_seconds, parameters, ((4, top1),), **changes)


def outcome(space, proposal):
    """Returns an invented result: accuracy and time grow with layers and expansions, and large kernels help most."""
    spec = space.spec(proposal.params, f"candidate {proposal.number}")
    layers = sum(row.repeats for row in spec.rows)
    expansions, kernels = sum(row.expand_ratio for row in spec.rows), sum(row.kernel_size for row in spec.rows)
    squeezes = sum(row.se_ratio > 0 for row in spec.rows)
    top1 = 30 + 0.5 * layers + 0.3 * expansions + 0.8 * kernels + 0.5 * squeezes
    seconds = 1e-3 * (1 + 0.3 * layers + 0.2 * expansions)
    return Result(proposal, spec_text(spec), seconds, 10**5 * layers, ((4, top1),))
