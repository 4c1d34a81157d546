"""The stream of batches: draws the order of the entries in each epoch, makes examples of them and batches those."""

from collections.abc import Callable, Sequence

import numpy as np

from effnetv2_jax.data.broken import guard
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.host_rows import HostRows
from effnetv2_jax.data.sources.source import Source, labels_fit
from effnetv2_jax.data.transform import Transform


def endless_entries(source: Source, *, seed: int, first_epoch: int, shuffle_buffer: int) -> tf.data.Dataset:
    """Returns the entries of one epoch after another, each with an added `seed` for its image, int64 `[2]`.

    The order of an epoch is drawn from `(seed, epoch)`, and an image's seed from `(seed, epoch, id)`.

    Args:
      source: the entries of an epoch.
      seed: seed of the order and of the images' seeds.
      first_epoch: the epoch to start with.
      shuffle_buffer: number of entries among which the next one is drawn. A buffer that holds the whole share shuffles
        it evenly. The files are then read once, in the stored order, and the entries are kept in memory.
    """
    kept = source.read(None).cache() if holds_share(source, shuffle_buffer) else None

    @tf.autograph.experimental.do_not_convert
    def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        # Only in the graph of this function, so that a global seed of the process has no effect here.
        tf.compat.v1.set_random_seed(None)
        files, buffer, images = tf.unstack(
            tf.random.stateless_uniform([3], tf.stack([seed, epoch]), None, None, tf.int64, alg="philox")
        )
        entries = source.read(files) if kept is None else kept
        entries = entries.shuffle(min(shuffle_buffer, source.num_examples), seed=buffer, reshuffle_each_iteration=False)
        return entries.map(lambda entry: entry | {"seed": tf.stack([images, _fingerprint(entry["id"])])})

    return tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(of_epoch)


def interleaved_rows(streams: Sequence[tf.data.Dataset], rows: HostRows) -> tf.data.Dataset:
    """Returns the entries of a host's rows, batch after batch.

    Args:
      streams: the entries of each of the host's parts, each starting with the first row of a batch.
      rows: the rows that the host takes of each part.
    """

    def of_batch(position: tf.Tensor, _: dict[str, tf.Tensor]) -> tf.Tensor:
        row = position % rows.rows
        return (row >= rows.skip) & (row < rows.skip + rows.take)

    if rows.take < rows.rows:
        streams = [stream.enumerate().filter(of_batch).map(lambda _, entry: entry) for stream in streams]
    if len(streams) == 1:
        return streams[0]
    choices = tf.data.Dataset.range(np.iinfo(np.int64).max).map(lambda row: row // rows.take % len(streams))
    return tf.data.Dataset.choose_from_datasets(streams, choices)


def holds_share(source: Source, shuffle_buffer: int) -> bool:
    """Returns whether a shuffle buffer holds the whole share."""
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
    unlabelled: bool = False,
) -> tf.data.Dataset:
    """Loads, decodes, transforms and batches entries in their order, on private threads.

    An example without a label, unless `unlabelled`, or with one outside `0 … classes - 1`, raises
    `tf.errors.InvalidArgumentError` with its name during iteration.

    Args:
      entries: entries as in `Source`, with `seed` int64 `[2]` added.
      transform: how an image is decoded and finished.
      load: an entry's `image` → encoded bytes.
      batch_size: number of examples in a batch.
      threads: number of threads.
      classes: number of classes.
      multi_hot: whether labels are sets of classes, which become float32 `[classes]`.
      guarded: whether an image that cannot be decoded is replaced by a placeholder instead of raising an error.
      drop_remainder: whether to leave out a last, smaller batch.
      unlabelled: whether examples may lack a label; with `multi_hot`, all of their label is then 0.

    Returns:
      Batches of `image` (uint8), `label`, `id`, `good` (False where `image` is a placeholder) and `entry` (the entry's
      `image` where it could not be decoded, else "").
    """

    @tf.autograph.experimental.do_not_convert
    def example(entry: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        data, seed = entry["image"], entry["seed"]

        def decode() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return transform.decode(load(data), seed), tf.constant(True), tf.constant("")

        placeholder = tf.zeros([1, 1, 3], tf.uint8), tf.constant(False), data
        image, good, rejected = guard(decode, placeholder) if guarded else decode()
        fits = labels_fit(entry["label"], classes, unlabelled=unlabelled)
        complaint = [entry["id"], "has a label outside the classes", entry["label"]]
        with tf.control_dependencies([tf.debugging.Assert(fits, complaint)]):
            label = tf.cast(entry["label"], tf.int32)
        return {
            "image": transform.finish(image, seed),
            "label": tf.minimum(tf.reduce_sum(tf.one_hot(label, classes), axis=0), 1.0) if multi_hot else label,
            "good": good,
            "id": entry["id"],
            "entry": rejected,
        }

    examples = entries.map(example, num_parallel_calls=threads, deterministic=True)
    return examples.batch(batch_size, drop_remainder=drop_remainder).with_options(stream_options(threads))


def stream_options(threads: int) -> tf.data.Options:
    """Returns options for a deterministic pipeline on private threads, which TensorFlow neither tunes nor extends."""
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False  # the memory plan counts every prefetched batch
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    return options
