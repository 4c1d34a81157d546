"""The table of published weights."""

import re
from pathlib import Path

import pytest

from effnetv2_jax import VARIANTS, list_pretrained
from effnetv2_jax.convert.frameworks.table import FRAMEWORKS
from effnetv2_jax.data.images.families import FAMILIES
from effnetv2_jax.pretrained.hub_address import hub_address
from effnetv2_jax.pretrained.table import TABLE, best_pretrained, find_pretrained, is_pretrained_name, row_at

V2 = [name for name in VARIANTS if name.startswith("efficientnetv2")]
V1 = [name for name in VARIANTS if name.startswith("efficientnet-")]


def test_every_row_names_a_variant_a_framework_and_a_family_that_exist():
    assert len({(row.name, row.framework) for row in TABLE}) == len({row.address for row in TABLE}) == len(TABLE)
    for row in TABLE:
        assert row.variant in VARIANTS
        assert FRAMEWORKS[row.framework].has_network(VARIANTS[row.variant])
        assert row.preprocessing in FAMILIES
        assert row.num_classes in (0, 1000, 21843)
        assert (row.num_classes == 21843) == (row.training == "in21k")
        assert re.fullmatch(r"hf://timm/tf_[\w.]+|https://[\w./-]+\.(tgz|tar\.gz|pth|h5)", row.address)
        assert re.fullmatch(r"|sha256:[0-9a-f]{8}|md5:[0-9a-f]{32}", row.checksum)
        assert (row.top1 is None) == (not row.top1_citation)
        assert row.top1 is None or 76 < row.top1 < 88


def test_every_variant_that_others_publish_has_weights():
    names = {(row.variant, row.framework) for row in TABLE}
    assert {variant for variant, framework in names if framework == "timm"} == {*V2, *V1}
    assert {variant for variant, framework in names if framework == "official"} == {*V2, *V1}
    smaller = {name for name in V2 if not name.endswith("xl")}
    assert {variant for variant, framework in names if framework == "keras"} == smaller
    assert {variant for variant, framework in names if framework == "torchvision"} == {
        *V1, *(f"efficientnetv2-{name}" for name in "sml")
    }  # fmt: skip


@pytest.mark.parametrize("framework", ["timm", "torchvision"])
def test_rows_agree_with_the_packages(framework):
    """Compares addresses, sizes and accuracies with the packages themselves, where they are installed."""
    package = pytest.importorskip(framework)
    for row in (row for row in TABLE if row.framework == framework):
        if framework == "timm":
            config = package.models.get_pretrained_cfg(hub_address(row.address).repository.partition("/")[2])
            assert (config.test_input_size or config.input_size)[1] == row.eval_size
            assert config.num_classes == row.num_classes
            assert [round(255 * value, 1) for value in config.mean] == pytest.approx(
                [127.5] * 3 if row.preprocessing != "legacy" else [123.7, 116.3, 103.5], abs=0.1
            )
        else:
            models = package.models.list_models(include="efficientnet*")
            weights = [w for model in models for w in package.models.get_model_weights(model) if w.url == row.address]
            assert [w.meta["_metrics"]["ImageNet-1K"]["acc@1"] for w in weights] == [row.top1]


def test_names_are_listed_once_and_selected_by_pattern_and_framework():
    assert len(set(list_pretrained())) == len(list_pretrained())
    assert list_pretrained("efficientnetv2-s.*", framework="timm") == tuple(
        f"efficientnetv2-s.{training}" for training in ("in1k", "in21k", "in21k_ft_in1k")
    )
    assert list_pretrained("*_notop", framework="timm") == ()


def test_a_name_alone_means_timms_weights_where_there_are_some():
    assert find_pretrained("efficientnetv2-s.in1k").address == "hf://timm/tf_efficientnetv2_s.in1k"
    assert find_pretrained("efficientnetv2-s.in1k", "keras").address.endswith("/efficientnetv2-s.h5")
    assert find_pretrained("efficientnetv2-b0.in21k").framework == "official"


@pytest.mark.parametrize("variant", [*V2, *V1])
def test_a_variant_alone_means_its_best_weights_on_imagenet_1k(variant):
    best = find_pretrained(variant)
    others = [find_pretrained(name) for name in list_pretrained(f"{variant}.*")]
    assert best.top1 == max(row.top1 or 0 for row in others)
    assert best.num_classes == 1000
    assert best.name == best_pretrained(variant)


def test_the_articles_networks_have_no_published_weights():
    assert best_pretrained("article-s") is None


@pytest.mark.parametrize(
    ("name", "framework", "message"),
    [
        ("efficientnetv2_rw_s.ra2_in1k", None, r"efficientnetv2_rw_\* are networks of another architecture"),
        ("tf_efficientnetv2_s.in21k", None, r"here they are called efficientnetv2-s\.in21k$"),
        ("efficientnetv2-s.in22k", None, r"those of efficientnetv2-s: in1k, in21k, in21k_ft_in1k"),
        ("efficientnetv2-x", None, "did you mean efficientnetv2-"),
        ("efficientnetv2-xl.in21k", "keras", r"keras does not publish efficientnetv2-xl\.in21k; .*: timm, official"),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is(name, framework, message):
    with pytest.raises(ValueError, match=message):
        find_pretrained(name, framework)


def test_a_file_of_that_name_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_pretrained_name("efficientnetv2-s")
    assert is_pretrained_name("efficientnetv2_rw_s.ra2_in1k")
    for text in ("efficientnetv2-s.tgz", "runs/efficientnetv2-s", "mine", "tf_efficientnetv2_b0.safetensors"):
        assert not is_pretrained_name(text)
    Path("efficientnetv2-s").mkdir()
    assert not is_pretrained_name("efficientnetv2-s")


def test_the_rows_of_the_hub_are_found_by_their_address():
    assert row_at(hub_address("hf://timm/tf_efficientnetv2_s.in1k@v1")).name == "efficientnetv2-s.in1k"
    assert row_at(hub_address("hf://timm/tf_efficientnetv2_s.in1k/pytorch_model.bin")) is None
    assert row_at(hub_address("hf://me/tf_efficientnetv2_s.in1k")) is None
