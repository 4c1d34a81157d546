"""The model card of weights on the Hugging Face Hub, written from their provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator

from effnetv2_jax.convert.frameworks.timm import TIMM
from effnetv2_jax.convert.verification import Verification
from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.summary import count_multiply_adds, count_parameters
from effnetv2_jax.pretrained.hub_address import HUB, in_hub
from effnetv2_jax.pretrained.published_weights import PublishedWeights
from effnetv2_jax.pretrained.table import TABLE

_UNKNOWN = "not recorded"
_DATASETS = {"imagenet-1k": "imagenet-1k", "imagenet-21k": "imagenet-21k"}
_FEW = 20


def model_card(provenance: Provenance, verification: Verification, repository: str) -> str:
    """Returns the text of a `README.md` with the hub's metadata at its start.

    Args:
      provenance: the provenance of the weights.
      verification: the comparison of logits of the conversion.
      repository: owner and name of the repository.
    """
    return "\n".join([*_metadata(provenance), *_body(provenance, verification, repository)]) + "\n"


def published_row(provenance: Provenance) -> PublishedWeights | None:
    """Returns the row of the published weights that these are, or None if they are not published ones."""
    names = (provenance.read_from, provenance.origin)
    return next((row for row in TABLE if f"{row.framework}:{row.file}" in names), None)


def starting_row(provenance: Provenance) -> PublishedWeights | None:
    """Returns the row of the published weights that training started from, if the provenance names such."""
    start = provenance.started_from
    return next((row for row in TABLE if start and start in (row.name, row.address)), None)


def _metadata(provenance: Provenance) -> Iterator[str]:
    """Yields the lines of the hub's metadata. A licence is stated only for weights whose publisher has stated it."""
    row, start = published_row(provenance), starting_row(provenance)
    yield "---"
    yield "library_name: timm"
    yield "pipeline_tag: image-classification"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("image-classification", "timm", "effnetv2_jax"))
    if row is not None and row.licence:
        yield f"license: {row.licence}"
    base = row or start
    if base is not None and in_hub(base.address):
        yield f"base_model: {base.address.removeprefix(HUB)}"
    if provenance.label_set in _DATASETS:
        yield f"datasets:\n- {_DATASETS[provenance.label_set]}"
    yield "---"


def _body(provenance: Provenance, verification: Verification, repository: str) -> Iterator[str]:
    spec = provenance.spec
    yield from (f"# {repository.partition('/')[2]}", "")
    yield f"Weights of {spec.name} for images of {provenance.eval_size} px, written by effnetv2_jax."
    yield from ("", "| | |", "|---|---|")
    yield from (f"| {name} | {value} |" for name, value in _facts(provenance))
    yield from ("", "The conversion was compared with the weights that were read:", "", f"> {verification}", "")
    yield from (
        "```python",
        "import timm",
        "",
        f'model = timm.create_model("hf-hub:{repository}", pretrained=True)',
        "```",
    )
    yield from ("", "```python", "import effnetv2_jax as e", "")
    yield from (f'model, variables = e.load_pretrained("{HUB}{repository}")', "```", "")
    yield from ("## Citation", "", f"{spec.citation}.")
    if not (row := published_row(provenance)) or not row.licence:
        yield from ("", "## Licence", "", _licence(provenance))


def _facts(provenance: Provenance) -> Iterator[tuple[str, str]]:
    """Yields the rows of the card's table."""
    spec, family = provenance.spec, preprocessing_family(provenance.preprocessing)
    row, start = published_row(provenance), starting_row(provenance)
    parameters = count_parameters(spec, provenance.num_classes) / 1e6
    adds = count_multiply_adds(spec, provenance.eval_size, provenance.num_classes) / 1e9
    crops = family.crops_in_evaluation(provenance.eval_size, provenance.eval_crop)
    share = family.central_share(provenance.eval_size)
    yield "architecture", f"{spec.name}; in timm `{TIMM.architecture(spec).call}`"
    yield "parameters, multiply-adds", f"{parameters:.1f} M, {adds:.2f} B"
    yield "classes", f"{provenance.num_classes}{_class_names(provenance)}"
    yield "label set", provenance.label_set or _UNKNOWN
    yield "preprocessing", f"{family.name}: {'central ' + f'{share:.3f}' if crops else 'whole image, squashed'}"
    yield "mean, standard deviation (0–1)", f"{_unit(family.mean)}, {_unit(family.std)}"
    yield "weights", provenance.averaging
    yield "read from", f"{provenance.read_from or _UNKNOWN} {_digest(provenance)}".rstrip()
    yield "converted from", provenance.origin or provenance.read_from or _UNKNOWN
    if provenance.started_from:
        yield "training started from", start.name if start else provenance.started_from
    if row is not None and row.top1 is not None:
        yield "published top-1 on ImageNet-1k", f"{row.top1:g} % ({row.top1_citation})"


def _class_names(provenance: Provenance) -> str:
    names = provenance.class_names
    shown = ", ".join(json.dumps(name, ensure_ascii=False).replace("|", "\\|") for name in names[:_FEW])
    return f": {shown}{', …' if len(names) > _FEW else ''}" if names else ""


def _unit(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value / 255:.3g}" for value in values) + ")"


def _digest(provenance: Provenance) -> str:
    return f"(SHA-256 {provenance.read_from_sha256})" if provenance.read_from_sha256 else ""


def _licence(provenance: Provenance) -> str:
    start = starting_row(provenance)
    known = f" The weights that training started from are under {start.licence}." if start and start.licence else ""
    return f"The licence of these weights is not recorded; their owner states it.{known}"
