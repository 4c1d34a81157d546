"""TensorFlow SavedModel, with a signature for encoded images and one for pixels."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.images.preprocess import evaluation_image
from effnetv2_jax.export.files.attached_files import texts
from effnetv2_jax.export.files.tensorflow_network import TensorflowNetwork
from effnetv2_jax.export.program import Program
from effnetv2_jax.export.served_network import ServedNetwork

SERVED, PIXELS = "serving_default", "images"
"""The signatures: encoded images → classes and probabilities, and pixels → logits."""

_EXTRA = "assets.extra"  # the folder that a SavedModel has for files of its user
_TOP = 5


def write(network: ServedNetwork, path: Path) -> None:
    """Writes the SavedModel, with the class names and the description in its folder `assets.extra`."""
    module = TensorflowNetwork(network)
    pixels = tf.TensorSpec([None, *network.image_shape()], tf.uint8, name="images")
    encoded = tf.TensorSpec([None], tf.string, name="encoded")
    module.images = tf.function(lambda images: {"logits": module(images)}, input_signature=[pixels], autograph=False)
    module.serve = tf.function(lambda encoded: _serve(module, encoded), input_signature=[encoded], autograph=False)
    tf.saved_model.save(module, str(path), {SERVED: module.serve, PIXELS: module.images})
    (path / _EXTRA).mkdir()
    for name, text in texts(network).items():
        (path / _EXTRA / name).write_text(text, encoding="utf-8")


def load(path: Path) -> Program:
    """Loads the signature for pixels in TensorFlow on the CPU.

    An operation may use all cores if TensorFlow has not been used before in this process.

    Raises:
      ValueError: if the folder is no SavedModel with this signature.
    """
    with contextlib.suppress(RuntimeError):  # of a TensorFlow in use
        tf.config.threading.set_intra_op_parallelism_threads(0)
    signature = _signature(path, PIXELS)
    (images,) = signature.structured_input_signature[1].values()
    return Program(
        runtime=f"TensorFlow {tf.__version__}",
        image_shape=tuple(images.shape[1:]),
        image_dtype=np.dtype(images.dtype.as_numpy_dtype),
        run=lambda batch: signature(images=tf.constant(batch))["logits"].numpy(),
    )


def serve(path: Path, encoded: bytes) -> tuple[list[str], np.ndarray]:
    """Returns the classes of an encoded image and their probabilities, as the signature for serving gives them."""
    served = _signature(path, SERVED)(encoded=tf.constant([encoded]))
    return [name.decode() for name in served["classes"][0].numpy()], served["probabilities"][0].numpy()


def _signature(path: Path, name: str) -> tf.types.experimental.ConcreteFunction:
    try:
        loaded = tf.saved_model.load(str(path))
    except OSError as error:
        raise ValueError(f"{path} is no SavedModel: {next(iter(str(error).splitlines()), error)}") from error
    if name not in loaded.signatures:
        raise ValueError(f"{path} has no signature {name!r}, so `effnetv2 export` did not write it")
    signature = loaded.signatures[name]
    signature.owner = loaded  # whose variables would be deleted otherwise
    return signature


def _serve(module: TensorflowNetwork, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the most probable classes of encoded images `[N]`, in descending order, and their probabilities."""
    network = module.network
    prepared = tf.TensorSpec(network.image_shape(), tf.float32)
    images = tf.map_fn(lambda data: _prepared(network, data), encoded, fn_output_signature=prepared)
    classes = network.model.num_classes
    names = tf.constant(network.class_names() or tuple(map(str, range(classes))))
    probabilities, indices = tf.math.top_k(tf.nn.softmax(module(images)), min(_TOP, classes))
    return {"classes": tf.gather(names, indices), "probabilities": probabilities}


def _prepared(network: ServedNetwork, data: tf.Tensor) -> tf.Tensor:
    """Decodes, crops and resizes an image for evaluation, to float32 `[S, S, 3]` in 0..255.

    The decoder recognises JPEG, PNG and GIF. The accurate inverse DCT is that of Pillow, which `predict` uses.
    """
    image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    provenance = network.provenance
    size, family = provenance.eval_size, network.family
    crop = family.crops_in_evaluation(size, provenance.eval_crop)
    return evaluation_image(image, family=family, image_size=size, crop=crop)
