"""The outputs of the network equal those of the official and the PyTorch code, which tests/golden contains."""

import numpy as np
import pytest
from golden import reference
from golden.official_weights import input_images

TOLERANCE = 5e-6

OFFICIAL = ("efficientnet-b0_64", "efficientnetv2-b0_64", "efficientnetv2-b0_75", "efficientnetv2-s_64", "tiny_64")
TORCH = (
    "timm_tf_efficientnetv2_b0",
    "timm_tf_efficientnetv2_s",
    "torchvision_efficientnet_v2_s",
    "article_effnetv2_s",
)


def run_official(case: str, *, moving_average: bool):
    name, size = case.rsplit("_", 1)
    network = "efficientnetv2-b0, width 0.25, depth 0.3, 10 classes" if name == "tiny" else name
    spec, num_classes = reference.official_spec(network)
    variables = reference.official_variables(spec, num_classes, moving_average=moving_average)
    return reference.network(spec, num_classes)(variables, input_images(int(size)))


@pytest.fixture(scope="module", params=OFFICIAL)
def official(request):
    """The expected arrays of a golden file, and our logits and end points for the same weights."""
    expected = np.load(reference.FOLDER / f"official_{request.param}.npz")
    return request.param, expected, run_official(request.param, moving_average=False)


def test_logits_equal_the_official_ones(official):
    _, expected, (logits, _) = official
    assert reference.relative(logits, expected["logits"]) <= TOLERANCE


def test_pooled_features_equal_the_official_ones(official):
    _, expected, (_, ends) = official
    assert reference.relative(ends["pooled_features"], expected["pooled_features"]) <= TOLERANCE


def test_stem_pixels_equal_the_official_ones(official):
    _, expected, (_, ends) = official
    assert reference.relative(ends["stem"][:, :4, :4], expected["stem"]) <= TOLERANCE


@pytest.mark.parametrize("end", ["stem", *(f"reduction_{k}" for k in range(1, 6))])
def test_end_points_have_the_official_shapes_and_means(official, end):
    _, expected, (_, ends) = official
    assert tuple(ends[end].shape) == tuple(expected[f"{end}_shape"])
    means = np.asarray(ends[end], np.float64).mean((1, 2))
    largest = float(np.abs(ends[end]).max())  # means nearly cancel, so errors are relative to the values
    assert np.abs(means - expected[f"{end}_mean"]).max() <= TOLERANCE * largest


def test_logits_of_the_moving_averages_equal_the_official_ones(official):
    case, expected, (raw, _) = official
    logits, _ = run_official(case, moving_average=True)
    assert reference.relative(logits, expected["logits_moving_average"]) <= TOLERANCE
    assert reference.relative(raw, expected["logits_moving_average"]) > 100 * TOLERANCE


@pytest.mark.parametrize("case", TORCH)
def test_logits_equal_those_of_pytorch(case):
    framework, _, name = case.partition("_")
    _, spec = reference.torch_spec(f"{framework}/{name}")
    expected = np.load(reference.FOLDER / f"torch_{case}_64.npz")["logits"]
    fields = {"padding": "symmetric"} if framework == "torchvision" else {}
    variables = reference.torch_variables(framework, spec)
    logits, _ = reference.network(spec, 1000, **fields)(variables, input_images(64))
    assert reference.relative(logits, expected) <= TOLERANCE
