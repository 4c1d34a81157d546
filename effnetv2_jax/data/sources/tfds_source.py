"""Data sets of TensorFlow Datasets (TFDS), including the built-in digits."""

import contextlib
import functools
from collections.abc import Iterator

import tensorflow_datasets as tfds

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.sources.datasets import DatasetSpec
from effnetv2_jax.data.sources.source import Source, digest_of, share


def open_tfds(spec: DatasetSpec, split: str, data_dir: str, host_index: int, host_count: int) -> Source:
    """Opens one host's share of a TFDS split. If needed and possible, the data set is downloaded and prepared first.

    Args:
      spec: a data set of the kind "tfds".
      split: the split in TFDS's notation.
      data_dir: the folder of TFDS; "" for its default (`TFDS_DATA_DIR`, else `~/tensorflow_datasets`).
      host_index: index of this host.
      host_count: number of hosts.

    Raises:
      ValueError: if there are fewer examples than hosts, or the stored data set has another number of classes.
      FileNotFoundError: if the data set does not exist and must be downloaded by hand.
    """
    builder = prepared_builder(spec.tfds_name, data_dir)
    feature = builder.info.features[spec.label_feature]
    label = feature.feature if isinstance(feature, tfds.features.Sequence) else feature
    if label.num_classes != spec.num_classes:
        raise ValueError(
            f"{spec.name} in {builder.data_dir} has {label.num_classes} classes, but should have {spec.num_classes}"
        )
    read = functools.partial(_read, builder, spec.label_feature)
    whole = read(split)
    total = int(whole.cardinality())
    share(total, host_index, host_count)
    mine = tfds.even_splits(split, host_count)[host_index] if host_count > 1 else split
    in_stored_order = read(mine) if host_count > 1 else whole
    stored = builder.info.splits.total_num_examples
    return Source(
        num_examples=int(in_stored_order.cardinality()),
        largest_share=-(-total // host_count),
        class_names=tuple(label.names or map(str, range(label.num_classes))),
        origin=f"tfds:{builder.info.full_name}[{split}]",
        entry_bytes=builder.info.dataset_size / stored if stored else 0.0,
        # Not their lengths in bytes: another machine may have encoded the same pixels differently.
        sizes=lambda: digest_of(f"{name} {split.shard_lengths}" for name, split in sorted(builder.info.splits.items())),
        read=lambda seed: in_stored_order if seed is None else read(mine, seed),
        multi_hot=spec.multi_hot,
    )


def _read(builder: tfds.core.DatasetBuilder, label: str, split: str, seed: tf.Tensor | None = None) -> tf.data.Dataset:
    encoded = tfds.decode.PartialDecoding({"image": True, label: True}, decoders={"image": tfds.decode.SkipDecoding()})
    read_config = tfds.ReadConfig(
        shuffle_seed=seed, add_tfds_id=True, try_autocache=False, skip_prefetch=True, interleave_cycle_length=16
    )
    read_config.options.deterministic = True
    entries = builder.as_dataset(split=split, decoders=encoded, read_config=read_config, shuffle_files=seed is not None)
    return entries.map(lambda entry: {"id": entry["tfds_id"], "image": entry["image"], "label": entry[label]})


def prepared_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """Returns the builder of a prepared data set, after preparing it if needed.

    Several processes may do this at once. TFDS writes to a temporary folder and then renames it. The first process
    succeeds; in the others the rename fails, and they use the folder of the first.

    Raises:
      FileNotFoundError: if the data set must be downloaded by hand; the message names the files.
    """
    builder = _builder(name, data_dir)
    try:
        with _quiet() if name == "digits" and not builder.is_prepared() else contextlib.nullcontext():
            builder.download_and_prepare()
    except AssertionError as error:  # TFDS asks for a manual download in this way
        raise FileNotFoundError(f"{name}: not found in {builder.data_dir}. {error}") from error
    except OSError:
        builder = _builder(name, data_dir)
        if not builder.is_prepared():
            raise
    return builder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides TFDS's progress bars and its lines about a download. The digits are not downloaded, and written at once."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        tfds.enable_progress_bar()


def _builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    folder = data_dir or None
    if name == "digits":
        from effnetv2_jax.data.sources.digits import Digits

        return Digits(data_dir=folder)
    return tfds.builder(name, data_dir=folder)
