"""The stream of a run: entries epoch after epoch in a drawn order, then examples, then batches."""

from collections.abc import Callable, Sequence

import numpy as np

from effnetv2_jax.data.broken import guard
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.host_rows import HostRows
from effnetv2_jax.data.sources.source import Source, labels_fit
from effnetv2_jax.data.transform import Transform


def endless_entries(source: Source, *, seed: int, first_epoch: int, shuffle_buffer: int) -> tf.data.Dataset:
    """The entries of epoch after epoch, in the order drawn from `(seed, epoch)`, each with its image's own seed.

    Args:
      source: the entries of an epoch.
      seed: of the order and of the images' seeds.
      first_epoch: where to start.
      shuffle_buffer: entries among which the next is drawn. One that holds the whole share shuffles it evenly by
        itself; then the files are read once, in the stored order, and the entries kept.
    """
    kept = source.read(None).cache() if holds_share(source, shuffle_buffer) else None

    @tf.autograph.experimental.do_not_convert
    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        tf.compat.v1.set_random_seed(None)  # in this function's graph: a global seed of the program must not count
        files, buffer, images = tf.unstack(
            tf.random.stateless_uniform([3], tf.stack([seed, epoch]), None, None, tf.int64, alg="philox")
        )
        entries = source.read(files) if kept is None else kept
        entries = entries.shuffle(min(shuffle_buffer, source.num_examples), seed=buffer, reshuffle_each_iteration=False)
        return entries.map(lambda entry: entry | {"seed": tf.stack([images, _fingerprint(entry["id"])])})

    return tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(of_epoch)


def rows_in_turn(streams: Sequence[tf.data.Dataset], rows: HostRows) -> tf.data.Dataset:
    """A host's rows of batch after batch, from the streams of its parts, each at the start of a batch."""

    def of_batch(position: tf.Tensor, _: dict[str, tf.Tensor]) -> tf.Tensor:
        row = position % rows.rows
        return (row >= rows.skip) & (row < rows.skip + rows.take)

    if rows.take < rows.rows:
        streams = [stream.enumerate().filter(of_batch).map(lambda _, entry: entry) for stream in streams]
    if len(streams) == 1:
        return streams[0]
    turns = tf.data.Dataset.range(np.iinfo(np.int64).max).map(lambda row: row // rows.take % len(streams))
    return tf.data.Dataset.choose_from_datasets(streams, turns)


def holds_share(source: Source, shuffle_buffer: int) -> bool:
    """Whether a shuffle buffer holds a host's whole share."""
    return source.num_examples <= shuffle_buffer


def _fingerprint(name: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(name, np.iinfo(np.int64).max)


def batched(
    entries: tf.data.Dataset,
    transform: Transform,
    load: Callable[[tf.Tensor], tf.Tensor],
    *,
    batch_size: int,
    threads: int,
    classes: int,
    multi_hot: bool = False,
    guarded: bool = False,
    drop_remainder: bool = True,
) -> tf.data.Dataset:
    """Decodes, transforms and batches entries that carry a `seed`, in their order, on threads of its own.

    Args:
      entries: see `Source`, with `seed` int64 `[2]` added.
      transform: what becomes of an image.
      load: an entry's `image` → encoded bytes.
      batch_size: examples in a batch.
      threads: that work on it.
      classes: labels are less; another one raises `tf.errors.InvalidArgumentError`, naming the example.
      multi_hot: whether labels are sets of classes and become float32 `[classes]`.
      guarded: whether an image that cannot be decoded yields a made-up one instead of an error.
      drop_remainder: whether to leave out a last, smaller batch.

    Returns:
      `image` uint8, `label`, `id`, and `good`: False where `image` is made up because `entry` could not be decoded.
    """

    @tf.autograph.experimental.do_not_convert
    def example(entry: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        data, seed = entry["image"], entry["seed"]

        def decode() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return transform.decode(load(data), seed), tf.constant(True), tf.constant("")

        made_up = tf.zeros([1, 1, 3], tf.uint8), tf.constant(False), data
        image, good, rejected = guard(decode, made_up) if guarded else decode()
        fits = labels_fit(entry["label"], classes)
        complaint = [entry["id"], "has a label outside the classes", entry["label"]]
        with tf.control_dependencies([tf.debugging.Assert(fits, complaint)]):
            label = tf.cast(entry["label"], tf.int32)
        return {
            "image": transform.finish(image, seed),
            "label": tf.reduce_max(tf.one_hot(label, classes), axis=0) if multi_hot else label,
            "good": good,
            "id": entry["id"],
            "entry": rejected,
        }

    examples = entries.map(example, num_parallel_calls=threads, deterministic=True)
    return examples.batch(batch_size, drop_remainder=drop_remainder).with_options(stream_options(threads))


def stream_options(threads: int) -> tf.data.Options:
    """Deterministic, on private threads, each operation on one of them, and nothing tuned or added while it runs."""
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False  # what is prefetched is in the memory plan
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return options
