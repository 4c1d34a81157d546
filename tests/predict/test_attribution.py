"""Grad-CAM equals a computation of its definition with numerical derivatives."""

import jax
import numpy as np
import pytest
from PIL import Image

from effnetv2_jax import VARIANTS, create_model, init_variables, save_variables
from effnetv2_jax.cli.main import main
from effnetv2_jax.predict.attribution import LAYER, grad_cam

SPEC = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)
SIZE, CLASSES = 96, 4


@pytest.fixture(scope="module")
def network():
    model = create_model(SPEC, num_classes=CLASSES)
    variables = init_variables(model, 0)
    rng = np.random.default_rng(1)
    variables["params"]["classifier"]["kernel"] = rng.normal(0, 1, (SPEC.head_width, CLASSES)).astype(np.float32)
    head = variables["params"]["head_norm"]
    head["bias"] = rng.normal(0, 0.5, head["bias"].shape).astype(np.float32)
    return model, variables


def tail(variables, features):
    """Returns the logits of features `[h, w, C]`: the head, the mean and the classifier, in float64."""
    params, stats = variables["params"], variables["batch_stats"]
    x = features @ np.float64(params["head_conv"]["kernel"])[0, 0]
    x = (x - stats["head_norm"]["mean"]) / np.sqrt(np.float64(stats["head_norm"]["var"]) + SPEC.bn_epsilon)
    x = x * params["head_norm"]["scale"] + params["head_norm"]["bias"]
    x = x / (1 + np.exp(-x))
    return x.mean((0, 1)) @ np.float64(params["classifier"]["kernel"]) + params["classifier"]["bias"]


def numerical_derivatives(variables, features, chosen, step=1e-5):
    """Returns the derivatives of a logit by central differences, for each number of the features."""
    found = np.zeros_like(features)
    for place in np.ndindex(features.shape):
        moved = [features.copy(), features.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        found[place] = (tail(variables, moved[0])[chosen] - tail(variables, moved[1])[chosen]) / (2 * step)
    return found


def test_maps_equal_those_of_numerical_derivatives(network):
    model, variables = network
    images = np.random.default_rng(0).normal(0, 1, (3, SIZE, SIZE, 3)).astype(np.float32)
    chosen = np.array([2, 0, 3], np.int32)
    logits, ends = jax.jit(lambda v, x: model.apply(v, x, train=False, return_endpoints=True))(variables, images)
    features = np.float64(ends[LAYER])
    maps = np.asarray(grad_cam(model)(variables, images, chosen))
    assert maps.shape == (*features.shape[:3],) == (3, 3, 3)
    assert (maps > 0).any()
    for one, row, label, expected_logits in zip(maps, features, chosen, logits, strict=True):
        np.testing.assert_allclose(tail(variables, row), expected_logits, rtol=1e-4, atol=1e-5)
        weights = numerical_derivatives(variables, row, label).mean((0, 1))
        expected = np.maximum((row * weights).sum(-1), 0)
        np.testing.assert_allclose(one, expected, rtol=1e-3, atol=1e-5 * max(expected.max(), 1e-3))


def test_predict_draws_a_row_for_each_image(network, tmp_path, capsys):
    save_variables(tmp_path / "w.safetensors", network[1], SPEC)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"猫 {number}.png")
    command = ["predict", "--checkpoint", str(tmp_path / "w.safetensors"), "--eval-size", str(SIZE)]
    assert main([*command, "--explain", str(tmp_path / "out/why.png"), str(tmp_path)]) == 0
    with Image.open(tmp_path / "out/why.png") as picture:
        width, height = picture.size
    assert 1.6 < width / height < 1.8  # four columns and two rows
    capsys.readouterr()
    assert main([*command, "--explain", str(tmp_path / "why.jpg"), str(tmp_path)]) == 2
    assert "--explain: " in capsys.readouterr().err
