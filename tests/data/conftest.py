from collections.abc import Callable
from pathlib import Path

import pytest
from data.pictures import encoded, picture

from effnetv2_jax.data.config import DataConfig


@pytest.fixture(autouse=True)
def fresh_listings() -> None:
    """Clears the cached listings of files, which a process keeps, before each test."""
    forget_listings()


def forget_listings() -> None:
    from effnetv2_jax.data import header_check
    from effnetv2_jax.data.sources import converted, folder, record_index, shard_index, shards, tfrecords

    listings = (
        *(folder.list_folder, record_index.indexed_files, tfrecords._files_of_splits, header_check._looks),
        *(shards.shards_of_splits, shard_index.indexed_shards, converted.whole_manifest),
    )
    for listing in listings:
        listing.cache_clear()


@pytest.fixture(scope="session")
def photo(golden: Path) -> bytes:
    """A JPEG of 500 x 375 pixels."""
    return (golden / "photo.jpg").read_bytes()


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of TFDS with the prepared digits."""
    from effnetv2_jax.data.sources.tfds_source import prepared_builder

    folder = str(tmp_path_factory.mktemp("tfds"))
    prepared_builder("digits", folder)
    return folder


@pytest.fixture
def digits(digits_dir: str) -> DataConfig:
    """The digits without augmentation; each test changes the fields that it is about."""
    return DataConfig(data_dir=digits_dir, preprocessing="finetune", augmentation="none", threads=2)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., DataConfig]:
    """Writes `{"train/cat/1.jpg": bytes, …}` and returns the configuration that reads it."""

    def make(files: dict[str, bytes], **fields: object) -> DataConfig:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        forget_listings()
        return DataConfig(
            **{"dataset": "folder", "data_dir": str(tmp_path), "augmentation": "none", "threads": 2, **fields}
        )

    return make


@pytest.fixture
def pets() -> dict[str, bytes]:
    """Two classes with six training and two evaluation images each, all different."""
    return {
        f"{split}/{name}/{index}.jpg": encoded(picture(100 * label + 10 * side + index))
        for side, (split, count) in enumerate((("train", 6), ("val", 2)))
        for label, name in enumerate(("cat", "dog"))
        for index in range(count)
    }
