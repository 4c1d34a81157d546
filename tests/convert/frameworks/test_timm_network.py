"""timm's networks of scaled specs, compared with the widths, depths and logits that timm 1.0.31 itself gives.

`tests/golden/timm_scaled.json` has the networks that timm's functions build for pairs of factors, and
`tests/golden/timm_scaled_64.npz` has logits. Where timm is installed, both are compared with it.
"""

import dataclasses
import json
import sys

import numpy as np
import pytest
from golden import reference
from golden.torch_weights import input_images

from effnetv2_jax import VARIANTS
from effnetv2_jax.convert.conversion import convert
from effnetv2_jax.convert.frameworks.table import FRAMEWORKS
from effnetv2_jax.convert.frameworks.timm import TIMM
from effnetv2_jax.convert.frameworks.timm_network import find_network
from effnetv2_jax.convert.weights import default_provenance, load_weights, save_variables

GOLDEN = json.loads((reference.FOLDER / "timm_scaled.json").read_text())
LOGITS = np.load(reference.FOLDER / "timm_scaled_64.npz")

DIGITS = VARIANTS["efficientnetv2-b0"].scaled(width=0.5, depth=0.34)  # the network of configs/digits.py
SCALED = {
    "digits": DIGITS,
    "s": VARIANTS["efficientnetv2-s"].scaled(width=0.5, depth=0.2),
    "m": VARIANTS["efficientnetv2-m"].scaled(depth=0.1),
}


def sizes(spec):
    """Returns the widths of stem, blocks, squeezes and head, as the golden file has them."""
    blocks = [[block.row, block.features, block.se_features] for block in spec.blocks()]
    return [spec.stem.features, blocks, spec.head_width]


@pytest.mark.parametrize("network", GOLDEN)
def test_a_scaled_network_is_named_exactly_where_timm_builds_it(network):
    """timm rounds the widths of S, M, L and XL in another way, and scales no head but those of B0 and S."""
    variant, width, depth = network.split()
    spec = VARIANTS[variant].scaled(float(width), float(depth))
    found = find_network(spec)
    if sizes(spec) != GOLDEN[network]:
        assert found.name is None
        assert "channels in its" in found.reason
    else:
        assert found.name == f"tf_{variant.replace('-', '_')}"
        factors = {"channel_multiplier": float(width), "depth_multiplier": float(depth)}
        assert found.arguments == {name: factor for name, factor in factors.items() if factor != 1.0}


def test_the_golden_networks_have_both_kinds():
    named = [
        find_network(VARIANTS[variant].scaled(float(w), float(d))).name for variant, w, d in map(str.split, GOLDEN)
    ]
    assert 20 <= named.count(None) <= len(named) - 20


def test_the_reason_names_the_first_layer_that_differs():
    assert find_network(VARIANTS["efficientnetv2-s"].scaled(width=0.4)).reason == (
        "tf_efficientnetv2_s(channel_multiplier=0.4) has 16 channels in its stem, and this network has 8"
    )
    assert "1280 channels in its head" in find_network(VARIANTS["efficientnetv2-m"].scaled(width=0.5)).reason
    assert "V2-B0, S, M, L and XL" in find_network(VARIANTS["efficientnet-b0"].scaled(width=0.5)).reason


def test_a_spec_that_differs_from_a_variant_only_in_its_training_has_its_name():
    other = dataclasses.replace(VARIANTS["efficientnetv2-s"], name="mine", dropout_rate=0.4, eval_size=128)
    assert find_network(other) == find_network(VARIANTS["efficientnetv2-s"])
    assert find_network(VARIANTS["efficientnet-b0"].scaled(width=1.1, depth=1.2)).name == "tf_efficientnet_b2"
    assert find_network(dataclasses.replace(other, head_features=640)).name is None
    fewer = dataclasses.replace(other, rows=other.rows[:-1])
    assert find_network(fewer).name is None


@pytest.mark.parametrize("name", SCALED)
def test_logits_equal_those_of_timm_s_scaled_network(name):
    spec = SCALED[name]
    assert find_network(spec).name is not None
    logits, _ = reference.network(spec, 10)(reference.torch_variables("timm", spec, 10), input_images(64))
    assert reference.relative(logits, LOGITS[name]) <= 5e-6


def folder_config(folder):
    return json.loads((folder / "config.json").read_text())


def test_a_folder_records_the_factors(tmp_path):
    save_variables(tmp_path / "folder", reference.torch_variables("timm", DIGITS, 10), DIGITS, target="timm")
    config = folder_config(tmp_path / "folder")
    assert config["architecture"] == "tf_efficientnetv2_b0"
    assert config["model_args"] == {"channel_multiplier": 0.5, "depth_multiplier": 0.34}
    assert config["num_features"] == 640


def test_a_folder_records_padding_and_epsilon_and_a_file_cannot(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    variables = reference.torch_variables("timm", reference.TINY, 10)
    provenance = dataclasses.replace(
        default_provenance(variables, reference.TINY), padding="symmetric", bn_epsilon=1e-5
    )
    save_variables(tmp_path / "w.safetensors", variables, reference.TINY, provenance=provenance)
    folder = convert(tmp_path / "w.safetensors", tmp_path / "folder", target="timm")
    assert folder.verification.exact
    factors = {"channel_multiplier": 0.25, "depth_multiplier": 0.3}
    assert folder_config(tmp_path / "folder")["model_args"] == {**factors, "pad_type": "", "bn_eps": 1e-5}
    assert load_weights(tmp_path / "folder").provenance.exact
    file = convert(tmp_path / "w.safetensors", tmp_path / "timm.safetensors", target="timm")
    assert "timm uses padding same" in file.verification.deviation


def test_a_folder_of_a_published_network_has_no_arguments(tmp_path):
    spec = VARIANTS["efficientnetv2-b0"]
    save_variables(tmp_path / "folder", reference.torch_variables("timm", spec, 10), spec, target="timm")
    assert "model_args" not in folder_config(tmp_path / "folder")


def timm_sizes(network):
    blocks = []
    for row, stage in enumerate(network.blocks):
        for block in stage:
            squeeze = getattr(block, "se", None)
            squeezed = squeeze.conv_reduce.out_channels if hasattr(squeeze, "conv_reduce") else 0
            last = next(getattr(block, name) for name in ("conv_pwl", "conv_pw", "conv") if hasattr(block, name))
            blocks.append([row, last.out_channels, squeezed])
    return [network.conv_stem.out_channels, blocks, network.conv_head.out_channels]


def test_timm_still_builds_the_golden_networks():
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    for network, expected in GOLDEN.items():
        variant, width, depth = network.split()
        factors = {"channel_multiplier": float(width), "depth_multiplier": float(depth)}
        with torch.device("meta"):
            built = timm.create_model(f"tf_{variant.replace('-', '_')}", **factors)
        assert timm_sizes(built) == expected, network


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize(("padding", "epsilon"), [("same", 1e-3), ("symmetric", 1e-5)])
def test_timm_loads_the_folder_as_it_is_and_gives_our_logits(tmp_path, name, padding, epsilon):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    spec = SCALED[name]
    variables = reference.torch_variables("timm", spec, 10)
    provenance = dataclasses.replace(default_provenance(variables, spec), padding=padding, bn_epsilon=epsilon)
    save_variables(tmp_path / "folder", variables, spec, target="timm", provenance=provenance)
    network = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval()
    images = input_images(64)
    with torch.inference_mode():
        got = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    ours = reference.network(spec, 10, padding=padding, bn_epsilon=epsilon)(variables, images)[0]
    assert reference.relative(got, ours) <= 5e-6


@pytest.mark.parametrize(
    ("package", "spec", "network"),
    [
        ("timm", DIGITS, "tf_efficientnetv2_b0(channel_multiplier=0.5, depth_multiplier=0.34)"),
        ("timm", VARIANTS["efficientnet-b0"].scaled(width=0.5, depth=0.3), "EfficientNet"),
        ("torchvision", DIGITS, "EfficientNet"),
    ],
)
def test_a_scaled_file_is_verified_in_the_framework_if_it_is_installed(tmp_path, package, spec, network):
    module = pytest.importorskip(package)
    variables = reference.torch_variables("timm", spec, 10)
    padding = FRAMEWORKS[package].padding or TIMM.padding
    provenance = dataclasses.replace(default_provenance(variables, spec), padding=padding)
    save_variables(tmp_path / "a.safetensors", variables, spec, provenance=provenance)
    done = convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", target=package).verification
    assert done.against == f"{package} {module.__version__} {network}"
    assert (done.computed_by, done.exact) == (package, True)
