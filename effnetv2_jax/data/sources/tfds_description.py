"""What TFDS needs to read converted shards: `dataset_info.json`, `features.json` and the names of the classes."""

import tensorflow_datasets as tfds

from effnetv2_jax.data.sources.converted import Manifest


def write_tfds_description(manifest: Manifest, folder: str) -> None:
    """Writes it beside the shards, so that `tfds.builder_from_directory(folder)` reads them.

    TFDS then gives `id`, `image` with three channels, and `label`, or a sequence of labels if images have several.
    """
    names = list(manifest.class_names)
    unique = len(set(names)) == len(names)  # TFDS takes no other names
    label = tfds.features.ClassLabel(**({"names": names} if unique else {"num_classes": len(names)}))
    template = tfds.core.ShardedFileTemplate(data_dir=folder, dataset_name="converted", filetype_suffix=manifest.format)
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features={
            "id": tfds.features.Text(),
            "image": tfds.features.Image(),
            "label": tfds.features.Sequence(label) if manifest.multi_hot else label,
        },
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=list(counts),
                num_bytes=sum(manifest.lengths[split]),
                filename_template=template,
            )
            for split, counts in manifest.examples.items()
        ],
        filename_template=template,
        check_data=False,
        description=f"Converted from {manifest.origin}",
    )
