"""Every config of the project, for every argument it takes, makes a run that can be."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from effnetv2_jax import VARIANTS
from effnetv2_jax.data.config import DatasetFacts
from effnetv2_jax.data.sources.datasets import DATASETS, resolve_splits
from effnetv2_jax.train import experiment
from effnetv2_jax.train.config import TrainConfig, flatten

CONFIGS = Path(__file__).parent.parent / "configs"
FINETUNE = ("cifar10", "cifar100", "oxford_flowers102", "cars196", "tf_flowers", "imagenet2012", "folder")
ARGUMENTS = {
    "digits.py": [None],
    "smoke.py": [None],
    "imagenet1k.py": [
        *VARIANTS,
        *(f"efficientnetv2-{letter},{preset}" for letter in "sml" for preset in ("official", "paper")),
    ],
    "imagenet21k.py": [name for name in VARIANTS if name.startswith("efficientnetv2")],
    "finetune.py": [f"{name},{data}" for name in ("efficientnetv2-s", "efficientnetv2-b3") for data in FINETUNE],
}
CASES = [(file, argument) for file, arguments in ARGUMENTS.items() for argument in arguments]


def load(file, argument):
    spec = importlib.util.spec_from_file_location(file.removesuffix(".py"), CONFIGS / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*([] if argument is None else [argument])), module


def test_every_config_is_tested():
    assert {path.name for path in CONFIGS.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("file", ARGUMENTS)
def test_every_config_opens_with_its_command_and_what_it_should_reach(file):
    _, module = load(file, ARGUMENTS[file][0])
    assert f"effnetv2 train --config configs/{file}" in module.__doc__
    assert "hould reach" in module.__doc__


@pytest.fixture
def facts(monkeypatch):
    """The facts of a data set by its row, in place of its files."""

    def from_row(config):
        row = DATASETS[config.dataset]
        resolve_splits(row, config.train_split, config.eval_split)
        classes = row.num_classes or 5
        sizes = row.split_sizes or {"train": 4000, "val": 500}
        first = row.train.split("+")[0].split("[")[0]
        return DatasetFacts(classes, sizes[first], min(sizes.values()), ("",) * classes, "", row.multi_hot)

    monkeypatch.setattr(experiment, "dataset_facts", from_row)


@pytest.mark.parametrize(("file", "argument"), CASES, ids=lambda value: str(value))
def test_every_config_makes_a_run(facts, monkeypatch, file, argument):
    monkeypatch.setattr(experiment, "variable_shapes", lambda model: {"params": {"stem_conv": {"kernel": 0}}})
    config, _ = load(file, argument)
    made = experiment.make_experiment(config, devices=8)
    assert made.total_steps > 0
    assert made.stages[-1].end_step == made.total_steps
    assert made.stages[-1].image_size <= made.eval_size * 1.5
    assert made.recipe.model.num_classes == made.facts.num_classes


def test_the_official_imagenet_run_is_the_published_one(facts):
    config, _ = load("imagenet1k.py", "efficientnetv2-s")
    made = experiment.make_experiment(dataclasses.replace(config), devices=8)
    assert [stage.image_size for stage in made.stages] == [171, 214, 257, 300]
    assert made.config.optimizer.schedule.base_rate * 4096 / 256 == pytest.approx(0.256)
    assert (config.optimizer.momentum, config.optimizer.decay, config.optimizer.epsilon) == (0.9, 0.9, 1e-3)
    assert (config.optimizer.weight_decay, config.loss.label_smoothing, config.ema_decay) == (1e-5, 0.1, 0.9999)
    assert (config.model.bn_momentum, config.model.bn_group_size) == (0.9, 1024)
    assert load("imagenet1k.py", "efficientnetv2-s,paper")[0].model.bn_momentum == 0.99
    assert load("imagenet1k.py", "efficientnetv2-b0")[0].data.augmentation == "autoaugment"


def test_21k_and_fine_tuning_follow_the_official_code(facts):
    config, _ = load("imagenet21k.py", "efficientnetv2-l")
    made = experiment.make_experiment(config, devices=8)
    assert [(stage.image_size, stage.dropout_rate, stage.drop_path_rate) for stage in made.stages] == [(224, 0.0, 0.0)]
    assert made.facts.num_classes == 21_843
    assert made.facts.multi_hot
    config, _ = load("finetune.py", "efficientnetv2-s,imagenet2012")
    made = experiment.make_experiment(config, devices=8)
    assert made.total_steps == max(10_000, 15 * made.facts.train_examples // 512)
    assert float(made.recipe.learning_rate(0)) == pytest.approx(0.001)
    assert made.stages[0].drop_path_rate == 0.2


def test_every_field_is_read_somewhere():
    package = CONFIGS.parent / "effnetv2_jax"
    source = "\n".join(path.read_text() for path in package.rglob("*.py"))
    for name in flatten(TrainConfig()):
        field = name.rsplit(".", 1)[-1]
        owner = "(?:config|self)" if name.startswith("model.") else "config"  # ModelConfig.spec reads its own
        uses = re.findall(rf"{owner}(?:\.\w+)*\.{field}\b|\"(?:\w+\.)*{field}\"", source)
        assert uses, f"{name} is read nowhere"
