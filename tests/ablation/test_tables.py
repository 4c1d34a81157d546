"""The rows of the tables: each is a run that can be trained, and it changes what its name says and nothing else."""

import pytest
from ablation.runs_made import outline, settings

from effnetv2_jax.ablation.changes import with_fused_rows
from effnetv2_jax.ablation.tables import AS_CONFIGURED, TABLES
from effnetv2_jax.model.summary import count_parameters
from effnetv2_jax.model.variants import VARIANTS, get_spec

S, M = "imagenet1k:efficientnetv2-s", "imagenet1k:efficientnetv2-m"
CONFIGS = ("smoke", "digits", "imagenet1k:efficientnetv2-b0", S, M)


def table(config, name):
    made = settings(config)
    return made, made.tables_of(outline(made))[name]


def stages(made, row):
    return outline(made).changed(row.fields).stages


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_a_run_that_can_be_trained(config, name):
    made, found = table(config, name)
    names = [row.name for row in found.rows]
    assert len(set(names)) == len(names) >= (2 if name == "networks" else 3)
    for row in found.rows:
        assert stages(made, row)[-1].end_step == outline(made).stages[-1].end_step
    for claim in found.claims:
        assert claim.weights.keys() <= set(names)
        assert sum(claim.weights.values()) == 0


def test_networks_are_trained_in_the_same_way():
    made, found = table("digits", "networks")
    runs = [outline(made).changed(row.fields) for row in found.rows]
    assert [run.spec for run in runs] == [get_spec(text) for text in made.networks]
    assert runs[0].stages == runs[1].stages == outline(made).stages


def test_progressive_rows_grow_what_their_names_say():
    made, found = table("digits", "progressive")
    own = stages(made, found.rows[-1])
    assert own == outline(made).stages
    for row in found.rows:
        size, strength = row.name.split(", ") if ", " in row.name else ("growing", "growing")
        expected = own if size.startswith("growing") else (own[-1],) * 4
        assert [stage.image_size for stage in stages(made, row)] == [stage.image_size for stage in expected]
        expected = own if strength.startswith("growing") else (own[-1],) * 4
        for quantity in ("magnitude", "mixup_alpha", "cutmix_alpha", "dropout_rate", "drop_path_rate"):
            values = [getattr(stage, quantity) for stage in stages(made, row)]
            assert values == pytest.approx([getattr(stage, quantity) for stage in expected]), (row.name, quantity)


def test_the_grid_has_each_size_with_each_magnitude():
    made, found = table(S, "strength")
    assert [row.name for row in found.rows[::3]] == [f"{size} px, magnitude 5" for size in (171, 257, 300)]
    assert [row.point[1] for row in found.rows[:3]] == pytest.approx([5, 25 / 3, 10])
    for row in found.rows:
        assert {(stage.image_size, stage.magnitude) for stage in stages(made, row)} == {row.point}
    eval_sizes = [outline(made).changed(row.fields).eval_size for row in found.rows[::3]]
    assert eval_sizes == [219, 329, 384]  # as 384 is to 300


def test_magnitudes_of_the_paper_stand_in_for_equal_ones():
    made = settings("digits")
    made.config["progressive.magnitude"] = [3.0, 3.0]
    magnitudes = {row.point[1] for row in made.tables_of(outline(made))["strength"].rows}
    assert magnitudes == {5.0, 10.0, 15.0}


@pytest.mark.parametrize(("fused", "millions"), [(0, 19.3), (5, 43.4), (7, 132.0)])
def test_fused_rows_give_the_parameters_of_the_paper(fused, millions):
    """Source: arXiv 2104.00298, table 3, V1-B4."""
    spec = with_fused_rows(VARIANTS["efficientnet-b4"], fused)
    assert count_parameters(spec, 1000) / 1e6 == pytest.approx(millions, rel=0.004)
    assert [row.kind for row in spec.rows] == ["fused"] * fused + ["mbconv"] * (7 - fused)


def test_presets_have_the_sizes_and_strengths_of_their_sources():
    made, found = table(M, "presets")
    own, official, paper = (stages(made, row) for row in found.rows)
    assert official == own
    assert found.rows[1].fields == {}
    assert [stage.image_size for stage in paper] == [129, 214, 299, 384]  # 128, 212, 296 and 380, to the same largest
    assert [stage.magnitude for stage in paper] == [5, 10, 15, 20]
    assert [stage.dropout_rate for stage in paper] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert {stage.cutmix_alpha for stage in paper} == {0.0}
    momenta = [outline(made).changed(row.fields).config.model.bn_momentum for row in found.rows]
    assert momenta == [0.9, 0.9, 0.99]


def test_presets_are_scaled_to_small_images():
    made, found = table("digits", "presets")
    _, official, paper = (stages(made, row) for row in found.rows)
    assert [stage.image_size for stage in official] == [27, 34, 41, 48]  # 171, 214, 257 and 300
    assert [stage.image_size for stage in paper] == [20, 30, 39, 48]  # 128, 185, 242 and 300


def test_parts_are_taken_away_where_the_run_has_them_and_added_elsewhere():
    made, found = table("digits", "parts")
    assert [row.name for row in found.rows] == [
        AS_CONFIGURED, "the same, raw weights", "without RandAugment", "without mixup", "without dropout",
        "with drop path", "without label smoothing",
    ]  # fmt: skip
    rows = {row.name: outline(made).changed(row.fields) for row in found.rows}
    assert {stage.mixup_alpha for stage in rows["without mixup"].stages} == {0.0}
    assert {stage.drop_path_rate for stage in rows["with drop path"].stages} == {0.2}
    assert rows["without RandAugment"].config.data.augmentation == "none"
    assert rows["without label smoothing"].config.loss.label_smoothing == 0
    assert rows["the same, raw weights"] == rows[AS_CONFIGURED]
