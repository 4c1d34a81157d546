"""Converts a file of weights to another framework, and verifies the new file before it appears."""

from __future__ import annotations

import contextlib
import dataclasses

from effnetv2_jax.convert.destination import CARD_FILE, appearing, is_folder
from effnetv2_jax.convert.frameworks.architecture import NoNetwork
from effnetv2_jax.convert.frameworks.pytorch import import_package
from effnetv2_jax.convert.frameworks.table import FrameworkName, TargetName, target_named
from effnetv2_jax.convert.model_card import model_card
from effnetv2_jax.convert.provenance_overrides import override_provenance
from effnetv2_jax.convert.verification import Verification, verify
from effnetv2_jax.convert.weight_file import PathLike
from effnetv2_jax.convert.weight_writer import check_target, write_weights
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.pretrained.hub_address import hub_address, in_hub


@dataclasses.dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
      provenance: the provenance that the new file records.
      verification: the comparison of logits.
      notes: remarks for the user on the file that was read.
    """

    provenance: Provenance
    verification: Verification
    notes: tuple[str, ...]


def convert(
    input_path: PathLike,
    output_path: PathLike,
    variant: str | ModelSpec | None = None,
    *,
    framework: FrameworkName | None = None,
    target: TargetName,
    moving_average: bool = True,
    new_head: int | None = None,
    class_names: tuple[str, ...] = (),
    preprocessing: str | None = None,
    eval_size: int | None = None,
    private: bool = False,
) -> Conversion:
    """Converts the weights in a file to the file of another framework and verifies the logits.

    If it fails, nothing is written. `class_names`, `preprocessing` and `eval_size` replace those of the weights.
    `private` makes a new repository of the hub private; a folder that is uploaded gets a model card. The other
    arguments are those of `load_weights` and `save_variables`.

    Raises:
      ValueError: as `load_weights` and `save_variables`; also if the number of names is not the number of classes, the
        preprocessing is unknown, the size is too small, or the logits should agree but do not.
      ImportError: as `load_weights`.
      OSError: as `load_weights` and `save_variables`.
    """
    path, known = output_path, target_named(target)
    if variant is not None:
        check_target(path, get_spec(variant), known)  # fails before the weights are read
    if known.package is not None:  # reading from gs:// may import TensorFlow, which has to come after this package
        with contextlib.suppress(NoNetwork):
            import_package(known.package)
    weights = load_weights(input_path, variant, framework=framework, moving_average=moving_average, new_head=new_head)
    provenance = override_provenance(
        weights.provenance, class_names=class_names, preprocessing=preprocessing, eval_size=eval_size
    )
    check_target(path, provenance.spec, known)
    folder = is_folder(path)
    with appearing(path, private=private) as temporary:
        file = write_weights(temporary, weights.variables, provenance, known, folder=folder)
        verification = verify(weights.variables, provenance, file, known, folder=folder)
        if not verification.exact and not verification.deviation:
            raise ValueError(f"nothing was written: {verification}")
        if folder and in_hub(path):
            card = model_card(provenance, verification, hub_address(path).repository)
            (temporary / CARD_FILE).write_text(card, encoding="utf-8")
    return Conversion(provenance, verification, weights.notes)
