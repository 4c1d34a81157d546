"""Values that a user gives for weights, in place of those that their file records."""

import dataclasses

from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.model.provenance import Provenance


def override_provenance(
    provenance: Provenance,
    *,
    class_names: tuple[str, ...] = (),
    preprocessing: str | None = None,
    eval_size: int | None = None,
) -> Provenance:
    """Returns the provenance with the values that a user gives. An empty value or None changes nothing.

    Raises:
      ValueError: if the number of names is not the number of classes, the preprocessing is unknown, or the size is too
        small for the network.
    """
    smallest = provenance.spec.minimum_image_size
    if class_names and len(class_names) != provenance.num_classes:
        raise ValueError(f"there are {len(class_names)} class names for {provenance.num_classes} classes")
    if eval_size is not None and eval_size < smallest:
        raise ValueError(f"{provenance.spec.name} needs images of at least {smallest} px, got {eval_size}")
    return dataclasses.replace(
        provenance,
        class_names=class_names or provenance.class_names,
        preprocessing=preprocessing_family(preprocessing or provenance.preprocessing).name,
        eval_size=eval_size or provenance.eval_size,
    )
