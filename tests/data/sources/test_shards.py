"""Shards in Parquet and in WebDataset's layout: read with the guarantees of the other sources."""

import io
import itertools
import json
import tarfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.conftest import forget_listings
from data.pictures import encoded, picture

from effnetv2_jax.data.check import check_dataset
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.dataset import dataset_info, open_source
from effnetv2_jax.data.pipeline import eval_batches, train_batches
from effnetv2_jax.data.sources import shard_index, shards, storage, webdataset

PER_FILE = 7
FILES = {"train": 5, "validation": 1}
NAMES = [f"class {k}" for k in range(40)]


def image(number, split="train"):
    return encoded(picture(number + 1000 * (split != "train")))


def write_parquet(path, labels, images, names=NAMES, group=3):
    image_type = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = [{"bytes": data, "path": f"{k}.jpg"} for k, data in enumerate(images)]
    features = {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}}
    metadata = {"huggingface": json.dumps({"info": features})} if names else None
    schema = pa.schema([("image", image_type), ("label", pa.int64())], metadata)
    pq.write_table(pa.table({"image": pa.array(rows, image_type), "label": labels}, schema), path, row_group_size=group)


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def samples(labels, images):
    for k, (label, data) in enumerate(zip(labels, images, strict=True)):
        yield f"n01440764/{k:04}.jpg", data
        if k % 2:
            yield f"n01440764/{k:04}.cls", str(label).encode()
        else:
            yield f"n01440764/{k:04}.json", json.dumps({"label": label, "key": "x.y"}).encode()


@pytest.fixture(params=["parquet", "webdataset"])
def data(request, tmp_path, monkeypatch):
    """Five training files and one for validation of seven examples each; example n has the label n."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for split, files in FILES.items():
        for file in range(files):
            labels = list(range(file * PER_FILE, (file + 1) * PER_FILE))
            images = [image(label, split) for label in labels]
            if request.param == "parquet":
                write_parquet(tmp_path / "data" / f"{split}-{file:05}-of-{files:05}.parquet", labels, images)
            else:
                write_tar(tmp_path / "data" / f"mine-{split}-{file:04}.tar", samples(labels, images))
    return DataConfig(
        dataset=request.param, data_dir=str(tmp_path), augmentation="none", preprocessing="finetune", threads=2
    )


def entries(config, host_index=0, host_count=1, *, evaluation=False, seed=None):
    source = open_source(config, evaluation=evaluation, host_index=host_index, host_count=host_count)
    return [(e["id"].decode(), e["image"], int(e["label"])) for e in source.read(seed).as_numpy_iterator()]


def test_every_example_is_read_once_with_its_own_label(data):
    for evaluation, split in enumerate(FILES):
        found = entries(data, evaluation=bool(evaluation))
        count = PER_FILE * FILES[split]
        assert sorted(label for *_, label in found) == list(range(count))
        assert all(content == image(label, split) for _, content, label in found)
        assert len({name for name, *_ in found}) == count


def test_hosts_share_the_examples_wherever_the_files_end(data):
    whole = {name for name, *_ in entries(data)}
    shares = [[name for name, *_ in entries(data, host, 4)] for host in range(4)]
    assert [len(share) for share in shares] == [8, 9, 9, 9]
    assert sorted(itertools.chain(*shares)) == sorted(whole)


def test_the_order_of_the_files_follows_the_seed(data):
    orders = [[name for name, *_ in entries(data, seed=np.int64(seed))] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_a_run_that_resumes_gets_the_same_batches(data):
    arguments = {"image_size": 8, "magnitude": 0.0, "batch_size": 8, "seed": 3}
    straight = list(itertools.islice(train_batches(data, **arguments, start_step=0), 12))
    resumed = list(itertools.islice(train_batches(data, **arguments, start_step=7), 5))
    for one, other in zip(straight[7:], resumed, strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
        np.testing.assert_array_equal(one["image"], other["image"])


def test_parts_of_splits_are_named_as_in_tfds_and_must_not_share_examples(data):
    data.train_split, data.eval_split = "train[:80%]", "train[80%:]"
    assert (dataset_info(data).train_examples, dataset_info(data).eval_examples) == (28, 7)
    data.eval_split = "train[50%:]"
    with pytest.raises(ValueError, match="share 10 examples"):
        dataset_info(data)
    data.eval_split = "test"
    with pytest.raises(ValueError, match=r"unknown split 'test'; allowed: train, validation"):
        dataset_info(data)


def test_evaluation_sees_each_image_once(data):
    batches = list(eval_batches(data, image_size=8, batch_size=4))
    counted = np.concatenate([batch["label"][batch["mask"] > 0] for batch in batches])
    assert sorted(counted) == list(range(PER_FILE))


def test_classes_are_named_by_the_files_or_counted(data):
    info = dataset_info(data, for_training=True)
    assert info.class_names == tuple(NAMES if data.dataset == "parquet" else map(str, range(35)))
    assert (info.train_examples, info.eval_examples) == (35, 7)
    assert info.sizes


def test_what_the_files_hold_is_found_once(data, monkeypatch):
    expected = dataset_info(data)
    forget_listings()

    def look(path):
        raise AssertionError(path)

    form = shards.FORMATS[data.dataset]._replace(look=look)
    monkeypatch.setattr(shards, "FORMATS", {data.dataset: form})
    assert dataset_info(data) == expected


def test_broken_images_are_replaced_in_training_and_named_by_the_check(data, tmp_path):
    images = [image(0), b"no image", *(image(k) for k in range(2, PER_FILE))]
    if data.dataset == "parquet":
        write_parquet(tmp_path / "data/train-00000-of-00005.parquet", list(range(PER_FILE)), images)
    else:
        write_tar(tmp_path / "data/mine-train-0000.tar", samples(range(PER_FILE), images))
    forget_listings()
    data.max_broken = 0.1
    batches = train_batches(data, image_size=8, magnitude=0.0, batch_size=35, start_step=0, seed=0)
    next(batches)
    assert batches.broken.skipped == 1
    (name,) = check_dataset(data).train.broken
    assert name.endswith("__1" if data.dataset == "parquet" else "mine-train-0000.tar__n01440764/0001")


def test_a_damaged_file_is_named(data, tmp_path):
    path = next((tmp_path / "data").glob("*train*"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if data.dataset == "parquet" else content[:700])
    with pytest.raises(ValueError, match=rf"{path} is damaged or not a (Parquet|tar) file"):
        dataset_info(data)


def test_a_missing_file_of_a_numbered_set_is_named(tmp_path):
    for file in (0, 2):
        write_parquet(tmp_path / f"train-{file:05}-of-00003.parquet", [0], [image(0)])
    with pytest.raises(FileNotFoundError, match=r"numbers \[1\] of 3"):
        dataset_info(DataConfig(dataset="parquet", data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("names", "message"),
    [([], r"no files \*.parquet"), (["mine.parquet"], "mine.parquet: neither the file nor its folder is named")],
)
def test_a_folder_without_files_of_a_split_is_refused(tmp_path, names, message):
    for name in names:
        write_parquet(tmp_path / name, [0], [image(0)])
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        dataset_info(DataConfig(dataset="parquet", data_dir=str(tmp_path)))


def test_columns_that_are_missing_are_named(tmp_path):
    pq.write_table(pa.table({"picture": ["a"], "label": [1]}), tmp_path / "train-0.parquet")
    with pytest.raises(ValueError, match=r"columns picture, label; it needs one of images"):
        dataset_info(DataConfig(dataset="parquet", data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.cls", b"1")], "'a' has no image"),
        ([("a.jpg", b"x"), ("a.txt", b"1")], "'a' has no label"),
        ([("a.jpg", b"x"), ("a.cls", b"cat")], "'a' has no label"),
    ],
)
def test_an_example_without_an_image_or_a_label_is_named(tmp_path, members, message):
    write_tar(tmp_path / "train-0.tar", members)
    with pytest.raises(ValueError, match=message):
        dataset_info(DataConfig(dataset="webdataset", data_dir=str(tmp_path)))


def test_reading_from_a_tar_starts_at_a_mark(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "_EVERY", 4)
    images = [bytes([k]) * (300 + k) for k in range(11)]
    write_tar(tmp_path / "train-0.tar", samples(range(11), images))
    content = webdataset.look(str(tmp_path / "train-0.tar"))
    assert len(content.marks) == 3
    for first, count in ((0, 11), (3, 2), (4, 1), (5, 6), (10, 1)):
        found = list(webdataset.read(str(tmp_path / "train-0.tar"), first, count, content.marks))
        assert [data for _, data, _ in found] == images[first : first + count]
        assert [label for *_, label in found] == list(range(first, first + count))


def test_an_object_in_a_bucket_reads_like_a_file(tmp_path, monkeypatch):
    content = bytes(range(256)) * 9000
    (tmp_path / "object").write_bytes(content)
    monkeypatch.setattr(storage, "in_bucket", lambda path: True)
    with storage.open_file(str(tmp_path / "object")) as file:
        assert file.read(5) == content[:5]
        assert file.seek(-7, 2) == len(content) - 7
        assert file.read() == content[-7:]
        assert file.seek(1_500_001) == file.tell() == 1_500_001
        assert file.read(900_000) == content[1_500_001:2_400_001]
    assert file.closed


def test_a_repository_of_the_hub_is_read_through_its_file_system(tmp_path, monkeypatch):
    """The file system is one in memory, with the functions of the hub's."""
    memory = fsspec.filesystem("memory")
    write_parquet(tmp_path / "train-0.parquet", [0, 1, 2, 3], [image(k) for k in range(4)], names=NAMES[:4])
    memory.makedirs("/datasets/me/mine/data", exist_ok=True)
    memory.put_file(str(tmp_path / "train-0.parquet"), "/datasets/me/mine/data/train-0.parquet")

    class Hub:
        open, info = memory.open, memory.info

        def glob(self, pattern):
            return [path.removeprefix("/") for path in memory.glob(f"/{pattern}")]

    monkeypatch.setattr("huggingface_hub.HfFileSystem", Hub)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = DataConfig(
        dataset="parquet", data_dir="hf://datasets/me/mine", train_split="train[:3]", eval_split="train[3:]"
    )
    assert [label for *_, label in entries(config)] == [0, 1, 2]
    assert list((tmp_path / "cache").rglob(shard_index.INDEX_NAME))
