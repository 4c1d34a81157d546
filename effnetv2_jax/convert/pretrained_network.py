"""A network that has learned already: published weights, with the network that they were trained in."""

from __future__ import annotations

from typing import Any

from effnetv2_jax.convert.frameworks.table import FrameworkName
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.variables import Variables


def load_pretrained(
    name: str,
    *,
    framework: FrameworkName | None = None,
    num_classes: int | None = None,
    **fields: Any,
) -> tuple[EfficientNetV2, Variables]:
    """Returns a network and its published weights, after a download unless they are on this machine.

    `load_weights` takes the same names, and also tells the preprocessing that the weights need.

    Args:
      name: a name that `list_pretrained` returns, such as `efficientnetv2-s.in21k_ft_in1k`; a variant alone for its
        best weights; or `hf://OWNER/REPOSITORY[/FILE][@REVISION]`.
      framework: whose files to take: `timm` on the Hugging Face Hub, `official`, `torchvision` or `keras`; None takes
        the first of these that has the name.
      num_classes: outputs of the classifier, which is fresh if the weights have another number; 0 for none, and for the
        pooled features as outputs. None keeps the classifier of the weights.
      fields: further arguments of `create_model`, such as `dtype`.

    Returns:
      The network, which has the padding and the BatchNorm epsilon of the weights, and
      `{"params": …, "batch_stats": …}`, float32 NumPy arrays on the host.

    Raises:
      ValueError: for an unknown name or framework, or a damaged file.
      ImportError: if the file needs a package that is not installed.
      OSError: if the weights are neither on this machine nor can be downloaded; the message says which file to put
        where.
    """
    weights = load_weights(name, framework=framework, num_classes=num_classes)
    return weights.model(**fields), weights.variables
