"""The Linen module serves those who use NNX."""

import numpy as np
from flax import nnx, traverse_util
from golden import reference
from golden.official_weights import input_images

from effnetv2_jax import create_model


def test_to_nnx_computes_the_same_logits_of_the_same_weights():
    images = input_images(64)
    variables = reference.official_variables(reference.TINY, 10)
    linen = create_model(reference.TINY, num_classes=10)
    model = nnx.jit(lambda images: nnx.bridge.ToNNX(linen, rngs=nnx.Rngs(0)).lazy_init(images))(images)
    flat = traverse_util.flatten_dict(variables["params"]) | traverse_util.flatten_dict(variables["batch_stats"])
    state = nnx.state(model)
    nnx.replace_by_pure_dict(state, traverse_util.unflatten_dict(flat))
    nnx.update(model, state)
    expected = np.load(reference.FOLDER / "official_tiny_64.npz")["logits"]
    assert reference.relative(nnx.jit(lambda model, images: model(images))(model, images), expected) <= 5e-6
