"""The sum of rows: which rows are compiled, how often, and how their cycles add up."""

import dataclasses

import pytest

from effnetv2_jax.analysis import row_sum
from effnetv2_jax.analysis.plan import config_of_variant
from effnetv2_jax.analysis.program_cost import ProgramCost
from effnetv2_jax.analysis.row_sum import RowSum, _row_alone
from effnetv2_jax.analysis.single_step import side_of_row
from effnetv2_jax.analysis.topology import parse_topology
from effnetv2_jax.model.summary import components
from effnetv2_jax.model.variants import VARIANTS

B0, S = VARIANTS["efficientnetv2-b0"], VARIANTS["efficientnetv2-s"]
CLOCK = parse_topology("v5e-1").chip.clock


@pytest.mark.parametrize("spec", [B0, S, B0.scaled(0.5, 0.34)], ids=lambda spec: spec.name)
@pytest.mark.parametrize("size", [160, 75])
def test_the_rows_alone_have_the_blocks_of_the_network_at_their_sizes(spec, size):
    def described(part):
        return part.description, part.image_size, part.features, part.parameters, part.multiply_adds

    whole = list(components(spec, size))
    for row in range(len(spec.rows)):
        alone = list(components(*_row_alone(spec, row, size)))
        expected = [described(part) for part in whole if part.row == row][:2]
        assert [described(part) for part in alone if part.row is not None] == expected
        if row == 0:
            assert described(alone[0]) == described(whole[0])
    assert [described(part) for part in alone[-2:]] == [described(part) for part in whole[-2:]]


@pytest.fixture
def compiled(monkeypatch):
    """The compiler takes 1,000 cycles for a stem, 100 and 10 for a block, 7 for the rest and 6 for each update."""
    seen = []

    def cost(program, *_):
        seen.append(program)
        names = {name.partition("/")[0] for name in map(str, program.arguments[0].params)}
        layers = {"stem_conv": 600, "convert_element_type": 400, "block_0/fused": 60, "block_0/fused (gradient)": 40}
        layers |= {"head_conv": 4, "Dropout_0": 2, "classifier": 1}
        layers |= {"block_1/fused": 10} if "block_1" in names else {}
        return ProgramCost(1, 1.0, 1.0, 5_000, {}, layers, 0, 0, {}, 1.0)

    monkeypatch.setattr(row_sum, "program_cost", cost)
    monkeypatch.setattr(row_sum, "make_mesh", lambda topology: _mesh())
    return seen


def _mesh():
    import jax

    from effnetv2_jax.train.devices.sharding import make_mesh

    return make_mesh(jax.devices()[:1])


def test_equal_rows_are_compiled_once_and_blocks_are_counted(compiled):
    config = config_of_variant("efficientnetv2-b0", [64], 8, 1, "float32")
    rows = RowSum(config, 64, parse_topology("v5e-1"))
    spec = dataclasses.replace(B0.scaled(0.5), rows=B0.rows[:2])
    assert rows.seconds(spec) * CLOCK == pytest.approx(1000 + 100 + 100 + 10 + 7)
    deeper = dataclasses.replace(spec, rows=(spec.rows[0], dataclasses.replace(spec.rows[1], repeats=5)), name="deeper")
    assert rows.seconds(deeper) * CLOCK == pytest.approx(1000 + 100 + 100 + 4 * 10 + 7)
    assert len(compiled) == 2
    assert rows.whole_seconds(spec) * CLOCK == pytest.approx(5_000)
    assert side_of_row(spec, 64, 1) == 16


@pytest.mark.slow
def test_the_sum_is_near_the_estimate_of_the_whole_program():
    """Compiles four rows and a small network for v5e."""
    config = config_of_variant("efficientnetv2-b0", [64], 32, 1, "bfloat16")
    rows = RowSum(config, 64, parse_topology("v5e-1"))
    spec = dataclasses.replace(B0, rows=B0.rows[:4], name="four rows")
    assert rows.seconds(spec) == pytest.approx(rows.whole_seconds(spec), rel=0.25)
