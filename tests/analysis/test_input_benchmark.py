"""The benchmark of the input pipeline."""

import io

import pytest
from PIL import Image

from effnetv2_jax.analysis.benchmarks.input_benchmark import Comparison, Rate, compare, generated_jpegs, measured_rate
from effnetv2_jax.data.config import DataConfig


def test_generated_images_have_the_size_of_imagenet_images():
    images = generated_jpegs(4)
    assert len(set(images)) == 4
    assert all(Image.open(io.BytesIO(image)).size == (500, 375) for image in images)
    assert 50_000 < sum(map(len, images)) / 4 < 90_000


def test_both_pipelines_are_timed():
    result = compare(
        generated_jpegs(2),
        DataConfig(augmentation="randaugment"),
        image_size=32,
        magnitude=10.0,
        threads=1,
        count=32,
        rounds=1,
    )
    assert min(result.ours.per_cpu_second, result.official.per_second, result.ratio) > 0


def test_the_ratio_is_above_one_if_the_official_pipeline_is_slower():
    assert Comparison(ours=Rate(5.0, 6.0), official=Rate(1.0, 2.0)).ratio == 3.0


@pytest.mark.parametrize("changes", [{"augmentation": "autoaugment"}, {"preprocessing": "legacy"}])
def test_a_config_without_an_official_counterpart_is_refused(changes):
    with pytest.raises(ValueError, match=f"'v2' .* got .*{next(iter(changes.values()))}"):
        compare([], DataConfig(**changes), image_size=32, magnitude=0.0, threads=1)


def test_measuring_takes_as_many_batches_as_the_images_need():
    stream = iter(range(100))
    assert measured_rate(stream, 25, 10).per_second > 0
    assert next(stream) == 3
