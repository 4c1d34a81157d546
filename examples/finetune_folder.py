"""Fine-tunes a network on a folder of images, through the Python API, and classifies an image with the result.

    python examples/finetune_folder.py
    python examples/finetune_folder.py --images my_images --weights tf_efficientnetv2_b0.safetensors --size 224

The folder holds train/<class>/*.jpg and, if you like, val/<class>/*.jpg. Without --images, the script writes the digits
of scikit-learn as such a folder. Without --weights, it trains a fresh network. The shell does the same with
`effnetv2 train --config finetune:efficientnetv2-b0,folder`.

Needs the extra `train`: pip install 'effnetv2_jax[train]'
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import effnetv2_jax as e
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.predict.classifier import Prediction, classify
from effnetv2_jax.train.config import ModelConfig, TrainConfig
from effnetv2_jax.train.recipe.optimizer import OptimizerConfig
from effnetv2_jax.train.recipe.progressive import ProgressiveConfig
from effnetv2_jax.train.recipe.schedule import ScheduleConfig
from effnetv2_jax.train.trainer import train


def write_digits(folder: Path) -> None:
    """Writes the digits of scikit-learn as `folder/train/<digit>/<number>.png`."""
    data = load_digits()
    for number, (pixels, digit) in enumerate(zip(data.images, data.target, strict=True)):
        path = folder / "train" / str(digit) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(path)


def main(argv: Sequence[str] | None = None) -> Prediction:
    """Fine-tunes, prints the accuracy, and returns the prediction for one image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of images (default: the digits)")
    parser.add_argument("--weights", help="a file or folder of any framework (default: fresh weights)")
    parser.add_argument("--workdir", type=Path, default=Path("runs/finetune"), help="the run folder")
    parser.add_argument("--size", type=int, default=48, help="side of the images in pixels")
    parser.add_argument("--epochs", type=float, default=20.0)
    parser.add_argument("--width", type=float, help="factor for B0's widths (default: 1 with --weights, else 0.5)")
    parser.add_argument("--depth", type=float, help="factor for B0's depths (default: 1 with --weights, else 0.34)")
    arguments = parser.parse_args(argv)

    width, depth = (1.0, 1.0) if arguments.weights else (0.5, 0.34)  # a fresh network of this size trains in minutes
    images = arguments.images or arguments.workdir / "digits"
    if not arguments.images and not images.exists():
        write_digits(images)
    config = TrainConfig(
        model=ModelConfig("efficientnetv2-b0", arguments.width or width, arguments.depth or depth),
        data=DataConfig(
            "folder",
            data_dir=str(images),
            preprocessing="finetune",
            augmentation="none",
            flip=arguments.images is not None,  # a mirrored digit is wrong
        ),
        progressive=ProgressiveConfig("custom", stages=1, image_size=(arguments.size,)),
        optimizer=OptimizerConfig(
            schedule=ScheduleConfig("cosine", base_rate=0.002, reference_batch=0, warmup_epochs=1.0)
        ),
        batch_size=64,
        epochs=arguments.epochs,
        ema_decay=0.99,
        init_from=arguments.weights or "",
        log_every_steps=10,
    )

    def initial_variables(model: e.EfficientNetV2) -> dict[str, Any]:
        """Returns the variables of the file, with a fresh classifier if it has other classes."""
        return e.load_weights(config.init_from, model.spec, num_classes=model.num_classes).variables

    summary = train(config, str(arguments.workdir), initial_variables if config.init_from else None)
    print(f"top-1 {summary['top1_averaged']:.1f} % of {summary['evaluated_images']} images; {arguments.workdir}")

    picture = next(path for path in sorted((images / "train").rglob("*")) if path.is_file())
    (prediction,) = classify(e.load_weights(arguments.workdir), [picture], top=2)
    for guess in prediction.guesses:
        print(f"{picture}: {guess.name} with {100 * guess.probability:.1f} %")
    return prediction


if __name__ == "__main__":
    main()
