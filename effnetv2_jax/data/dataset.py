"""Opens the data set that a configuration names, and finds its classes and sizes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from effnetv2_jax.data.config import DataConfig, DatasetInfo, check_config
from effnetv2_jax.data.sources.datasets import dataset_spec, ranges, resolve_splits

if TYPE_CHECKING:
    from effnetv2_jax.data.sources.source import Source


def open_source(config: DataConfig, *, evaluation: bool, host_index: int = 0, host_count: int = 1) -> Source:
    """Opens one host's share of the training or the evaluation split.

    Raises:
      ValueError: if a field of the configuration is wrong, the splits share examples, the data is malformed, or there
        are fewer examples than hosts.
      FileNotFoundError: if the data does not exist.
    """
    check_config(config)
    spec = dataset_spec(config.dataset)
    if spec.kind in ("parquet", "webdataset"):
        from effnetv2_jax.data.sources.shards import open_shards, split_sizes

        spec = dataclasses.replace(spec, split_sizes=split_sizes(spec.kind, config.data_dir))
        splits = resolve_splits(spec, config.train_split, config.eval_split)
        return open_shards(spec, splits[evaluation], config.data_dir, host_index, host_count)
    if spec.kind == "converted":
        from effnetv2_jax.data.sources.converted import open_converted, whole_manifest

        spec = dataclasses.replace(spec, split_sizes=whole_manifest(config.data_dir).split_sizes)
        splits = resolve_splits(spec, config.train_split, config.eval_split)
        return open_converted(spec, splits[evaluation], config.data_dir, host_index, host_count)
    splits = resolve_splits(spec, config.train_split, config.eval_split)
    if spec.kind == "folder":
        from effnetv2_jax.data.sources.folder import list_folder, open_folder

        listed = list_folder(config.data_dir, *splits, holdout=config.holdout, holdout_seed=config.holdout_seed)
        return open_folder(listed, host_index, host_count, evaluation=evaluation)
    if spec.kind == "tfrecords":
        from effnetv2_jax.data.sources.tfrecords import open_tfrecords as open_records
    else:
        from effnetv2_jax.data.sources.tfds_source import open_tfds as open_records
    return open_records(spec, splits[evaluation], config.data_dir, host_index, host_count)


def dataset_info(config: DataConfig, *, for_training: bool = False) -> DatasetInfo:
    """Opens the data set of `config` and returns its classes and sizes.

    Args:
      config: which data.
      for_training: whether to look at the headers of images first, see `check_headers`, and at the sizes of files. The
        first takes about a second at most, the second a few for a million local files.

    Raises:
      ValueError: if a field of the configuration is wrong, the splits share examples, the data is malformed, or too
        many images are broken.
      FileNotFoundError: if the data does not exist.
    """
    train, evaluation = (open_source(config, evaluation=side) for side in (False, True))
    if for_training:
        from effnetv2_jax.data.header_check import check_headers

        check_headers(config)
    return DatasetInfo(
        num_classes=len(train.class_names),
        train_examples=train.num_examples,
        eval_examples=evaluation.num_examples,
        class_names=train.class_names,
        origin=_both(train.origin, evaluation.origin),
        multi_hot=train.multi_hot,
        sizes=_both(train.sizes(), evaluation.sizes()) if for_training else "",
    )


def _both(train: str, evaluation: str) -> str:
    """Returns the texts about the two splits, once if they are equal."""
    return train if train == evaluation else f"{train} {evaluation}"


def recorded_info(config: DataConfig) -> DatasetInfo | None:
    """Returns the classes and sizes that `DATASETS` records for the data set of `config`, without opening it.

    Returns None for a data set without recorded classes and sizes, such as a folder.

    Raises:
      ValueError: if the data set or a split is unknown, a split is malformed, or the two share an example.
    """
    spec = dataset_spec(config.dataset)
    if not (spec.split_sizes and spec.num_classes):
        return None
    splits = resolve_splits(spec, config.train_split, config.eval_split)
    train, evaluation = (sum(end - first for _, first, end in ranges(spec, s, spec.split_sizes)) for s in splits)
    names = tuple(str(label) for label in range(spec.num_classes))
    return DatasetInfo(spec.num_classes, train, evaluation, names, f"{spec.name}, not opened", spec.multi_hot)
