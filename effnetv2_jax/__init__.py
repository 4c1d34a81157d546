"""EfficientNetV2 in JAX/Flax, TPU first."""

from effnetv2_jax.convert.weights import load_variables, load_weights, save_variables
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2, create_model
from effnetv2_jax.model.specs import VARIANTS, BlockSpec, ModelSpec, RowSpec

__all__ = [
    "VARIANTS",
    "BlockSpec",
    "EfficientNetV2",
    "ModelSpec",
    "RowSpec",
    "create_model",
    "load_variables",
    "load_weights",
    "save_variables",
]
__version__ = "0.1.0"
