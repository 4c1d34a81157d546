"""The runs of an ablation: each row and seed once, under names that stay."""

import dataclasses

import pytest
from ablation.runs_made import BASE, outline, settings

from effnetv2_jax.ablation.runs import runs_of
from effnetv2_jax.model.spec_file import spec_text
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.train.config import flatten


def runs(**changes):
    made = settings("digits", **changes)
    return made, runs_of(made, outline(made), made.tables_of(outline(made)))


def test_rows_that_tables_have_in_common_are_trained_once():
    made, found = runs(seeds=2)
    tables = made.tables_of(outline(made))
    configs = [flatten(run.config) for run in found]
    assert all(one not in configs[:number] for number, one in enumerate(configs))
    rows = {name: len(table.rows) for name, table in tables.items()}
    assert rows == {"networks": 2, "progressive": 4, "strength": 9, "fused": 4, "presets": 3, "parts": 7}
    # The config itself is a row of three tables, and the raw weights are another row of it. The largest and strongest
    # images of the grid are those of one size and constant strength. The network without fused rows is one of the
    # networks.
    assert len(found) == 2 * (29 - 2 - 1 - 1 - 1)


def test_the_network_of_the_config_is_the_same_under_another_name():
    spec = VARIANTS["efficientnetv2-b0"].scaled(width=0.5, depth=0.34)
    _, found = runs(seeds=1, networks=(BASE, spec_text(dataclasses.replace(spec, name="other"))), tables=("networks",))
    assert [run.folder for run in found][1] == "runs/networks_other/0"
    _, both = runs(seeds=1, networks=(BASE, spec_text(spec)), tables=("networks", "progressive"))
    assert len(both) == 2 + 4 - 1


def test_all_rows_come_with_the_first_seed_then_with_the_next():
    made, found = runs(seeds=3, tables=("progressive",))
    first = made.config["seed"]
    assert [run.config.seed - first for run in found] == [0] * 4 + [1] * 4 + [2] * 4
    assert found[0].label == f"one size, constant strength, seed {first}"


def test_the_name_of_a_run_does_not_depend_on_the_tables_that_are_asked_for():
    _, whole = runs(seeds=1)
    _, part = runs(seeds=1, tables=("parts",))
    assert {run.folder for run in part} < {run.folder for run in whole}
    by_folder = {run.folder: run.config for run in whole}
    assert all(by_folder[run.folder] == run.config for run in part)
    assert part[0].folder == "runs/progressive_growing_size_and_strength/0"


def test_a_table_without_differences_is_refused():
    made = settings("digits", tables=("progressive",))
    made.config["progressive.stages"] = 1
    with pytest.raises(ValueError, match="all rows of the table 'progressive' are the same"):
        runs_of(made, outline(made), made.tables_of(outline(made)))
