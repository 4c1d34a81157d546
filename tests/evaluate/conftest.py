"""What the tests of evaluation share: a small network with random weights, and data in the format of TFDS."""

import dataclasses
import io

import jax
import numpy as np
import pytest
from PIL import Image

from effnetv2_jax import VARIANTS, create_model, init_variables, save_variables
from effnetv2_jax.convert.weights import default_provenance

SPEC = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)
SIZE = 24


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory):
    """The folder in which the tests prepare the digits."""
    folder = tmp_path_factory.getbasetemp().parent / "tensorflow_datasets"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        yield folder


def spread_variables(num_classes, seed=0):
    """Returns variables whose logits differ from image to image, unlike those of fresh ones."""
    variables = init_variables(create_model(SPEC, num_classes=num_classes), seed)
    rng = np.random.default_rng(seed)
    variables["params"]["classifier"]["kernel"] = rng.normal(0, 3, (SPEC.head_width, num_classes)).astype(np.float32)
    return variables


def save_weights(path, num_classes, seed=0, **provenance):
    variables = spread_variables(num_classes, seed)
    known = default_provenance(variables, SPEC)
    save_variables(
        path,
        variables,
        SPEC,
        provenance=dataclasses.replace(known, **{"preprocessing": "finetune", "eval_size": SIZE} | provenance),
    )
    return str(path)


@pytest.fixture(scope="session")
def digits_weights(tmp_path_factory):
    """Two files of weights for the digits."""
    folder = tmp_path_factory.mktemp("weights")
    return [save_weights(folder / f"{seed}.safetensors", 10, seed, averaging="averaged") for seed in (0, 1)]


@pytest.fixture(scope="session")
def imagenet_weights(tmp_path_factory):
    """Weights for ImageNet-1k, which do not record the names of its classes."""
    return save_weights(tmp_path_factory.mktemp("weights") / "in1k.safetensors", 1000, label_set="imagenet-1k")


def photo(number):
    """Returns a picture and its JPEG file; pictures of different numbers differ."""
    pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
    image = Image.fromarray(pixels).resize((40, 30), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=95)
    return buffer.getvalue()


def write_folder(folder, images):
    """Writes `{"cat/1.jpg": number}` as pictures."""
    for name, number in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(number))
    return str(folder)


def logits_of(path, batch):
    """Returns the logits of a file of weights for normalised images, without the code under test."""
    from effnetv2_jax import load_weights

    weights = load_weights(path)
    model = weights.model()
    return np.asarray(jax.jit(lambda v, x: model.apply(v, x, train=False))(weights.variables, batch))
