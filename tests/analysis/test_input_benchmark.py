import io

import pytest
from PIL import Image

from effnetv2_jax.analysis.benchmarks.input_benchmark import compare, generated_jpegs, measured_rate
from effnetv2_jax.data.config import DataConfig


def test_generated_images_have_imagenets_usual_size_and_weight():
    images = generated_jpegs(4)
    assert len(set(images)) == 4
    assert all(Image.open(io.BytesIO(image)).size == (500, 375) for image in images)
    assert 50_000 < sum(map(len, images)) / 4 < 90_000


def test_both_ways_are_timed_on_the_same_images():
    result = compare(
        generated_jpegs(2),
        DataConfig(augmentation="randaugment"),
        image_size=32,
        magnitude=10.0,
        threads=1,
        count=32,
        rounds=1,
    )
    assert result.ratio == result.ours.per_cpu_second / result.official.per_cpu_second
    assert min(result.ours.per_cpu_second, result.official.per_second) > 0


@pytest.mark.parametrize("changes", [{"augmentation": "autoaugment"}, {"preprocessing": "legacy"}])
def test_what_has_no_official_way_is_not_compared(changes):
    with pytest.raises(ValueError, match="the official way is there for preprocessing 'v2' with"):
        compare([], DataConfig(**changes), image_size=32, magnitude=0.0, threads=1)


def test_measuring_takes_as_many_batches_as_the_images_need():
    stream = iter(range(100))
    assert measured_rate(stream, 25, 10).per_second > 0
    assert next(stream) == 3
