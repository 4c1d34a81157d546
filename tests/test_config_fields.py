"""The fields of a configuration, as its dataclasses document them."""

import dataclasses
from typing import get_args, get_type_hints

import pytest

from effnetv2_jax.config_fields import check_choices, config_fields
from effnetv2_jax.data.augment.operations import OPERATION_SETS
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.train.config import TrainConfig, flatten, unflatten
from effnetv2_jax.train.recipe.losses import LOSSES, LossConfig
from effnetv2_jax.train.recipe.optimizer import OPTIMIZERS, OptimizerConfig
from effnetv2_jax.train.recipe.progressive import PRESETS, ProgressiveConfig
from effnetv2_jax.train.recipe.schedule import SCHEDULES, ScheduleConfig


def _leaves(value):
    return sum(_leaves(each) for each in value.values()) if isinstance(value, dict) else 1


def test_every_field_is_documented_with_its_value_and_type():
    fields = {field.name: field for field in config_fields(TrainConfig())}
    assert len(fields) == _leaves(dataclasses.asdict(TrainConfig()))
    assert [name for name, field in fields.items() if len(field.meaning) < 10] == []
    assert fields["optimizer.epsilon"].type == "None or float"
    assert fields["progressive.image_size"].type == "a tuple of int"
    assert fields["loss.kind"].type == "'softmax', 'sigmoid' or 'multi_hot'"
    assert fields["loss.kind"].value == "softmax"


@dataclasses.dataclass
class Undocumented:
    """A dataclass whose documentation lacks a field.

    Attributes:
      first: one that
        spans two lines.

    This is not an entry.
    """

    first: int = 1
    second: int = 2


def test_a_meaning_spans_lines_and_a_missing_one_is_empty():
    assert [field.meaning for field in config_fields(Undocumented())] == ["one that spans two lines.", ""]


@pytest.mark.parametrize(
    ("config", "field", "table"),
    [
        (LossConfig, "kind", LOSSES),
        (OptimizerConfig, "name", OPTIMIZERS),
        (ProgressiveConfig, "preset", PRESETS),
        (ScheduleConfig, "kind", SCHEDULES),
        (DataConfig, "operations", OPERATION_SETS),
    ],
)
def test_the_allowed_values_are_the_rows_of_the_table(config, field, table):
    assert set(get_args(get_type_hints(config)[field])) == set(table)


def test_a_value_that_is_not_allowed_is_refused_with_those_that_are():
    config = TrainConfig(loss=LossConfig(kind="hinge"))
    with pytest.raises(ValueError, match=r"loss\.kind must be 'softmax', 'sigmoid' or 'multi_hot', got 'hinge'"):
        check_choices(config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "1"), ("seed", 1.5), ("seed", True), ("seed", None), ("epochs", "1"), ("epochs", None),
        ("model.remat", 1), ("model.remat", ["1"]), ("model.padding", 1), ("model.padding", "valid"),
        ("model.bn_epsilon", "small"), ("data.data_dir", 5), ("data.data_dir", ["a"]), ("optimizer.clip_norm", {}),
    ],
)  # fmt: skip
def test_a_record_with_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got "):
        unflatten({name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 1), ("model.remat", [1, 2]), ("model.bn_epsilon", None), ("model.padding", "same")]
)
def test_a_record_s_values_are_those_of_json(name, value):
    assert flatten(unflatten({name: value}))[name] == value


@pytest.mark.parametrize("record", [None, [], "seed", 5, {"model": {}}, {"model.__class__": 1}, {"": 1}, {"a.b.c": 1}])
def test_a_record_of_other_things_is_refused(record):
    with pytest.raises(ValueError, match="configuration"):
        unflatten(record)
