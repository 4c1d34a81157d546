"""The two formats of shards that `effnetv2 data convert` writes, and the form of an example in a record."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from effnetv2_jax.data.cpu_tensorflow import tf

_BLOCK = 16  # records that Python passes to TensorFlow at once


class RecordFormat(NamedTuple):
    """How records lie in a file.

    Attributes:
      writer: path on a disk → an object that has `write(record)` and `close()`.
      read: (path, number of records to skip, number of records to take) → the records; all of them are tensors.
      reads_buckets: whether `read` takes paths in `gs://`.
    """

    writer: Callable[[str], Any]
    read: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.data.Dataset]
    reads_buckets: bool


def _read_tfrecord(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(path, buffer_size=1 << 20).skip(skip).take(take)


def _array_record_writer(path: str) -> Any:
    from array_record.python.array_record_module import ArrayRecordWriter

    return ArrayRecordWriter(path, "group_size:1,uncompressed")  # images are compressed already


def _read_array_record(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
    def blocks(path: bytes, skip: int, take: int) -> Iterator[list[bytes]]:
        from array_record.python.array_record_module import ArrayRecordReader

        reader = ArrayRecordReader(path.decode())
        for first in range(skip, skip + take, _BLOCK):
            yield reader.read(first, min(first + _BLOCK, skip + take))

    text = tf.TensorSpec([None], tf.string)
    return tf.data.Dataset.from_generator(blocks, args=(path, skip, take), output_signature=text).unbatch()


RECORD_FORMATS: Mapping[str, RecordFormat] = MappingProxyType(
    {
        "tfrecord": RecordFormat(tf.io.TFRecordWriter, _read_tfrecord, True),
        "array_record": RecordFormat(_array_record_writer, _read_array_record, False),
    }
)


def record_of(name: bytes, image: bytes, labels: list[int]) -> bytes:
    """Returns an example as a record: a `tf.train.Example` with `id`, `image` and `label`."""
    features = {
        "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name])),
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=labels)),
    }
    return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True))


def entry_of(record: tf.Tensor, *, multi_hot: bool) -> dict[str, tf.Tensor]:
    """Returns the entry of a record; its label is int64, or int64 `[k]` if images have several classes."""
    text, number = tf.io.FixedLenFeature([], tf.string), tf.io.FixedLenFeature([], tf.int64)
    numbers = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
    features = {"id": text, "image": text, "label": numbers if multi_hot else number}
    return dict(tf.io.parse_single_example(record, features))
