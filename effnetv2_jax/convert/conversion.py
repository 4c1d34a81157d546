"""A conversion from file to file: read, written beside the target, verified, and only then put in place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from effnetv2_jax.convert.atomic_write import replacing
from effnetv2_jax.convert.names import Convention
from effnetv2_jax.convert.provenance_overrides import with_stated
from effnetv2_jax.convert.sources import PathLike
from effnetv2_jax.convert.targets import check_target, is_folder, write_weights
from effnetv2_jax.convert.verification import Verification, verify
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.specs import ModelSpec, get_spec


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What was done: the facts written into the file, the comparison of logits, and what a user should be told."""

    provenance: Provenance
    verification: Verification
    notes: tuple[str, ...]


def convert(
    source_path: PathLike,
    target_path: PathLike,
    variant: str | ModelSpec | None = None,
    *,
    source: Convention,
    target: Convention,
    moving_average: bool = True,
    new_head: int | None = None,
    class_names: tuple[str, ...] = (),
    preprocessing: str | None = None,
    eval_size: int | None = None,
) -> Conversion:
    """Converts weights from one framework's file to another's and proves it; a failure leaves nothing written.

    `class_names`, `preprocessing` and `eval_size` replace what is known of the weights; the rest is as in
    `load_weights` and `save_variables`.

    Raises:
      ValueError: what those raise; a number of names that is not that of the classes; an unknown preprocessing; or
        logits that should agree and do not.
    """
    path = Path(target_path)
    if variant is not None:
        check_target(path, get_spec(variant), target)  # before the work of reading
    weights = load_weights(source_path, variant, source=source, moving_average=moving_average, new_head=new_head)
    provenance = with_stated(
        weights.provenance, class_names=class_names, preprocessing=preprocessing, eval_size=eval_size
    )
    check_target(path, provenance.spec, target)
    with replacing(path) as temporary:
        file = write_weights(temporary, weights.variables, provenance, target, folder=is_folder(path))
        verification = verify(weights.variables, provenance, file, target)
        if not verification.exact and not verification.deviation:
            raise ValueError(f"nothing was written: {verification}")
    return Conversion(provenance, verification, weights.notes)
