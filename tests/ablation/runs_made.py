"""Settings of small ablations, and run folders as a training leaves them."""

import functools
import json
import runpy

from effnetv2_jax.ablation.outline import make_outline
from effnetv2_jax.ablation.runs import RunNames, run_folder
from effnetv2_jax.ablation.settings import AblationSettings
from effnetv2_jax.cli.options.own_configs import own_configs
from effnetv2_jax.model.spec_file import spec_text
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.train.config import flatten, unflatten

BASE = spec_text(VARIANTS["efficientnet-b0"].scaled(width=0.25, depth=0.1))
OTHER = spec_text(VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1))


def outline(made):
    """Returns the outline of the run of an ablation on one device, made once for each run."""
    return _outline(json.dumps(made.config))


@functools.cache
def _outline(config):
    return make_outline(unflatten(json.loads(config)), 1)


def settings(name="smoke", **changes):
    """Returns the settings of an ablation of one of the project's configs, `NAME[:ARGUMENT]`."""
    name, _, argument = name.partition(":")
    config = runpy.run_path(str(own_configs()[name]))["get_config"](*filter(None, [argument]))
    config.compilation_cache = ""
    return AblationSettings(**({"config": flatten(config), "base": BASE, "networks": (BASE, OTHER)} | changes))


def finish(folder, *, top1, raw=None, rates=(), reported="averaged"):
    """Writes what a finished run leaves: `rates` are pairs of an image size and its images a second."""
    folder.mkdir(parents=True)
    summary = {"reported_weights": reported, "top1": top1 if raw is None else raw, "top1_averaged": top1}
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = [
        {"step": n, "train/image_size": size, "train/images_per_second": rate} for n, (size, rate) in enumerate(rates)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def folder_of(folder, made, row, number):
    """Returns the folder of a run of a row."""
    tables = made.tables_of(outline(made))
    (found,) = (each for table in tables.values() for each in table.rows if each.name == row)
    return folder.run(run_folder(RunNames(outline(made), tables).name(found), number))


def finish_row(folder, made, row, tops, **changes):
    """Finishes the runs of a row, one for each of `tops`."""
    for number, top1 in enumerate(tops):
        finish(folder_of(folder, made, row, number), top1=top1, **changes)
