"""EfficientNetV2 in JAX/Flax, TPU first."""

from effnetv2_jax.convert.pretrained_network import load_pretrained
from effnetv2_jax.convert.weights import load_variables, load_weights, save_variables
from effnetv2_jax.export.exporter import export_model
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2, create_model
from effnetv2_jax.model.folding import fold_batch_norm
from effnetv2_jax.model.nnx_module import to_nnx
from effnetv2_jax.model.spec_file import read_spec, write_spec
from effnetv2_jax.model.specs import BlockSpec, ModelSpec, RowSpec
from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.pretrained.table import list_pretrained
from effnetv2_jax.version import __version__

__all__ = [
    "VARIANTS",
    "BlockSpec",
    "EfficientNetV2",
    "ModelSpec",
    "RowSpec",
    "__version__",
    "create_model",
    "export_model",
    "fold_batch_norm",
    "init_variables",
    "list_pretrained",
    "load_pretrained",
    "load_variables",
    "load_weights",
    "read_spec",
    "save_variables",
    "to_nnx",
    "write_spec",
]
