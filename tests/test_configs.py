"""The project's configs: each makes a valid run for each of its arguments, and every field has an effect."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effnetv2_jax import VARIANTS, save_variables
from effnetv2_jax.cli.initial_weights import initial_variables
from effnetv2_jax.cli.teacher import load_teacher
from effnetv2_jax.data.config import DataConfig, DatasetInfo
from effnetv2_jax.data.sources.datasets import DATASETS, resolve_splits
from effnetv2_jax.model.efficientnetv2 import create_model
from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train import derivation
from effnetv2_jax.train.config import EvaluationConfig, ModelConfig, TrainConfig, flatten
from effnetv2_jax.train.recipe.distillation import DistillationConfig
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig
from effnetv2_jax.train.trainer import train

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
def test_every_config_documents_its_command_and_expected_result(file):
    _, module = load(file, ARGUMENTS[file][0])
    assert f"effnetv2 train --config configs/{file}" in module.__doc__
    assert "hould reach" in module.__doc__


@pytest.fixture
def recorded_sizes(monkeypatch):
    """Takes the sizes of a data set from `DATASETS`, instead of opening its files."""

    def from_row(config, **_):
        row = DATASETS[config.dataset]
        resolve_splits(row, config.train_split, config.eval_split)
        classes = row.num_classes or 5
        sizes = row.split_sizes or {"train": 4000, "val": 500}
        first = row.train.split("+")[0].split("[")[0]
        return DatasetInfo(classes, sizes[first], min(sizes.values()), ("",) * classes, "", row.multi_hot)

    monkeypatch.setattr(derivation, "dataset_info", from_row)


@pytest.mark.usefixtures("recorded_sizes")
@pytest.mark.parametrize(("file", "argument"), CASES, ids=str)
def test_every_config_makes_a_valid_run(monkeypatch, file, argument):
    monkeypatch.setattr(derivation, "variable_shapes", lambda _: {"params": {"stem_conv": {"kernel": 0}}})
    config, _ = load(file, argument)
    made = derivation.make_experiment(config, devices=8)
    assert made.total_steps > 0
    assert made.stages[-1].end_step == made.total_steps
    assert made.stages[-1].image_size <= made.eval_size * 1.5
    assert made.recipe.model.num_classes == made.dataset_info.num_classes


@pytest.mark.usefixtures("recorded_sizes")
def test_the_official_imagenet_config_has_the_published_values():
    config, _ = load("imagenet1k.py", "efficientnetv2-s")
    made = derivation.make_experiment(dataclasses.replace(config), devices=8)
    assert [stage.image_size for stage in made.stages] == [171, 214, 257, 300]
    assert made.config.optimizer.schedule.base_rate * 4096 / 256 == pytest.approx(0.256)
    assert (config.optimizer.name, config.optimizer.momentum, config.optimizer.decay) == ("rmsprop", 0.9, 0.9)
    assert config.optimizer.epsilon is None  # RMSProp's own, 1e-3
    assert (config.optimizer.weight_decay, config.loss.label_smoothing, config.ema_decay) == (1e-5, 0.1, 0.9999)
    assert (config.model.bn_momentum, config.model.bn_group_size) == (0.9, 1024)
    assert load("imagenet1k.py", "efficientnetv2-s,paper")[0].model.bn_momentum == 0.99
    assert load("imagenet1k.py", "efficientnetv2-b0")[0].data.augmentation == "autoaugment"


@pytest.mark.usefixtures("recorded_sizes")
def test_the_configs_of_21k_and_fine_tuning_follow_the_official_code():
    config, _ = load("imagenet21k.py", "efficientnetv2-l")
    made = derivation.make_experiment(config, devices=8)
    assert [(stage.image_size, stage.dropout_rate, stage.drop_path_rate) for stage in made.stages] == [(224, 0.0, 0.0)]
    assert made.dataset_info.num_classes == 21_843
    assert made.dataset_info.multi_hot
    config, _ = load("finetune.py", "efficientnetv2-s,imagenet2012")
    made = derivation.make_experiment(config, devices=8)
    assert made.total_steps == max(10_000, 15 * made.dataset_info.train_examples // 512)
    assert float(made.recipe.learning_rate(0)) == pytest.approx(0.001)
    assert made.stages[0].drop_path_rate == 0.2


# Functions that read fields only to copy, store or check them.
NO_USE = ("replace", "_replace", "flatten", "check_config")


def recording(config, reads, prefix=""):
    """Returns a copy of a config that adds the dotted name of each field to `reads` when the field is used."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}

    class Recording(type(config)):
        def __getattribute__(self, name):
            if name in values and sys._getframe(1).f_code.co_name not in NO_USE:
                reads.add(prefix + name)
            return super().__getattribute__(name)

    return Recording(
        **{
            name: recording(value, reads, f"{prefix}{name}.") if dataclasses.is_dataclass(value) else value
            for name, value in values.items()
        }
    )


def test_a_run_uses_every_field(tmp_path):
    """Trains for two steps on a folder of images, from saved weights, which are its teacher as well."""
    rng = np.random.default_rng(0)
    for k in range(20):
        path = tmp_path / "images" / "train" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    model = ModelConfig("efficientnetv2-b0", width=0.25, depth=0.1)
    weights = tmp_path / "weights.safetensors"
    variables = init_variables(create_model(model.spec(), num_classes=2), 0)
    save_variables(str(weights), variables, model.spec(), target="timm")
    config = TrainConfig(
        model=model,
        data=DataConfig("folder", data_dir=str(tmp_path / "images")),
        progressive=ProgressiveConfig("custom", stages=1, image_size=(17,)),
        evaluation=EvaluationConfig(image_size=17, batch_size=2),
        distillation=DistillationConfig(str(weights), "timm"),
        batch_size=8,
        epochs=1.0,
        init_from=str(weights),
        init_framework="timm",
        compilation_cache="",
    )
    reads = set()
    config = recording(config, reads)
    summary = train(config, str(tmp_path / "run"), initial_variables(config), teacher=load_teacher(config))
    assert summary["steps"] == 2
    assert flatten(TrainConfig()).keys() - reads == set()
