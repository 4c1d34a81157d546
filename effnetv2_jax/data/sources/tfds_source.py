"""Data sets of TensorFlow Datasets, the built-in digits among them."""

import tensorflow_datasets as tfds

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.sources.datasets import DatasetSpec
from effnetv2_jax.data.sources.source import Source, share

_ENCODED = tfds.decode.PartialDecoding({"image": True, "label": True}, decoders={"image": tfds.decode.SkipDecoding()})


def open_tfds(spec: DatasetSpec, split: str, data_dir: str, host_index: int, host_count: int) -> Source:
    """Opens one host's share of a TFDS split, preparing the data set first where that needs no manual download.

    Args:
      spec: a row of kind "tfds".
      split: the split in TFDS's notation.
      data_dir: TFDS's folder; "" for TFDS's default (`TFDS_DATA_DIR`, else `~/tensorflow_datasets`).
      host_index: this host.
      host_count: the number of hosts.

    Raises:
      ValueError: fewer examples than hosts, or the stored data set has other classes than the row says.
      FileNotFoundError: the data set is not there and cannot be downloaded by itself.
    """
    builder = prepared_builder(spec.tfds_name, data_dir)
    label = builder.info.features["label"]
    if label.num_classes != spec.num_classes:
        raise ValueError(
            f"{spec.name} in {builder.data_dir} has {label.num_classes} classes, but should have {spec.num_classes}"
        )
    whole = _read(builder, split)
    total = int(whole.cardinality())
    share(total, host_index, host_count)
    mine = tfds.even_splits(split, host_count)[host_index] if host_count > 1 else split
    in_stored_order = _read(builder, mine) if host_count > 1 else whole
    stored = builder.info.splits.total_num_examples
    return Source(
        num_examples=int(in_stored_order.cardinality()),
        largest_share=-(-total // host_count),
        class_names=tuple(label.names or map(str, range(label.num_classes))),
        origin=f"tfds:{builder.info.full_name}[{split}]",
        entry_bytes=builder.info.dataset_size / stored if stored else 0.0,
        read=lambda seed: in_stored_order if seed is None else _read(builder, mine, seed),
    )


def _read(builder: tfds.core.DatasetBuilder, split: str, seed: tf.Tensor | None = None) -> tf.data.Dataset:
    read_config = tfds.ReadConfig(
        shuffle_seed=seed, add_tfds_id=True, try_autocache=False, skip_prefetch=True, interleave_cycle_length=16
    )
    read_config.options.deterministic = True
    entries = builder.as_dataset(
        split=split, decoders=_ENCODED, read_config=read_config, shuffle_files=seed is not None
    )
    return entries.map(lambda entry: {"id": entry["tfds_id"], "image": entry["image"], "label": entry["label"]})


def prepared_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """Returns a builder whose files are in place; safe when several processes ask at once.

    TFDS writes to a temporary folder beside the final one and renames it. Of several processes that prepare at once
    the first renames; for the others that rename fails, and they use what the first left.

    Raises:
      FileNotFoundError: TFDS cannot download the data set by itself (its message says what to fetch).
    """
    builder = _builder(name, data_dir)
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # TFDS's way to ask for a manual download
        raise FileNotFoundError(f"{name}: not found in {builder.data_dir}. {error}") from error
    except OSError:
        builder = _builder(name, data_dir)
        if not builder.is_prepared():
            raise
    return builder


def _builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    folder = data_dir or None
    if name == "digits":
        from effnetv2_jax.data.sources.digits import Digits

        return Digits(data_dir=folder)
    return tfds.builder(name, data_dir=folder)
