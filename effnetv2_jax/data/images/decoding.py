"""Decodes encoded bytes to pixels: the whole image, or only a part of it."""

import functools
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.images.families import MAX_IMAGE_BYTES, MAX_PIXELS
from effnetv2_jax.data.images.image_header import PILLOW_FORMATS, has_too_many_scans, is_costly_bitmap, ruled_out

_END_OF_JPEG = b"\xff\xd9"
_QUICK = 2 * 10**11  # bytes × pixels up to which a JPEG is decoded in seconds, whatever its scans

Window = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
"""A part of an image in pixels: top, left, height and width, each int32."""


@functools.partial(tf.function, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def decode(data: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG, PNG, GIF (first frame), WebP or BMP, recognised by its content, to uint8 `[H, W, 3]`.

    As in the official code, JPEGs are decoded with TensorFlow's default, the fast inverse DCT. It differs from Pillow's
    accurate one by 1 level on average and by up to 14. Orientation tags are ignored, and transparency is dropped.

    Raises:
      tf.errors.OpError: if the bytes are not such an image, are cut short, are more than `MAX_IMAGE_BYTES`, or announce
        more than `MAX_PIXELS`.
    """

    def jpeg() -> tf.Tensor:
        with tf.control_dependencies([_jpeg_shape(data)]):
            return tf.io.decode_jpeg(data, channels=3)

    return tf.cond(tf.io.is_jpeg(data), jpeg, lambda: _decode_other(data))


def decode_window(data: tf.Tensor, window: Callable[[tf.Tensor, tf.Tensor], Window], least_size: int = 0) -> tf.Tensor:
    """Decodes the part of an image that `window(height, width)` returns. Only that part of a JPEG is decoded.

    Unless the part is scaled down, its pixels equal those that `decode` gives.

    Args:
      data: scalar string, an encoded image.
      window: `(height, width)` of the image → the part to decode.
      least_size: if not 0, a JPEG is decoded at the smallest of 1/2, 1/4 and 1/8 of its size at which the part still
        has this many pixels in both directions.

    Returns:
      uint8 `[height, width, 3]`, with the window's height and width, divided by 2, 4 or 8 if it was scaled down.

    Raises:
      tf.errors.OpError: as `decode` does.
    """

    def jpeg() -> tf.Tensor:
        shape = _jpeg_shape(data)
        top, left, height, width = window(shape[0], shape[1])

        def exact() -> tf.Tensor:
            # One more column on either side, because a column's colours are interpolated from its neighbours.
            first = tf.maximum(left - 1, 0)
            end = tf.minimum(left + width + 1, shape[1])
            wider = tf.io.decode_and_crop_jpeg(data, tf.stack([top, first, height, end - first]), channels=3)
            return wider[:, left - first : left - first + width]

        def scaled(ratio: int) -> tf.Tensor:
            part = tf.stack([top, left, height, width]) // ratio
            return tf.io.decode_and_crop_jpeg(data, part, channels=3, ratio=ratio)

        if not least_size:
            return exact()
        halvings = sum(tf.cast(tf.minimum(height, width) >= ratio * least_size, tf.int32) for ratio in (2, 4, 8))
        return tf.switch_case(halvings, [exact, *(functools.partial(scaled, ratio) for ratio in (2, 4, 8))])

    def other() -> tf.Tensor:
        image = _decode_other(data)
        top, left, height, width = window(tf.shape(image)[0], tf.shape(image)[1])
        return image[top : top + height, left : left + width]

    return tf.cond(tf.io.is_jpeg(data), jpeg, other)


def _jpeg_shape(data: tf.Tensor) -> tf.Tensor:
    """Returns the shape that a JPEG announces, int32 `[3]`, once it is known to be of an allowed size.

    libjpeg prints a line, without a name, about a file that is cut short within its header. So this looks at the header
    of a file that lacks the marker at its end before libjpeg does.
    """

    def checked() -> tf.Tensor:
        refused = tf.numpy_function(lambda data: np.bool_(ruled_out(io.BytesIO(data))), [data], tf.bool)
        with tf.control_dependencies([tf.debugging.Assert(~refused, ["no JPEG that can be decoded"])]):
            return tf.identity(data)

    end = tf.strings.substr(data, -2, 2)
    shape = tf.io.extract_jpeg_shape(tf.cond(end == _END_OF_JPEG, lambda: data, checked))
    cost = tf.reduce_prod(tf.cast(tf.stack([tf.strings.length(data), shape[0], shape[1]]), tf.float32))

    def many_scans() -> tf.Tensor:
        return tf.numpy_function(lambda data: np.bool_(has_too_many_scans(bytes(data))), [data], tf.bool)

    slow = tf.cond(cost > _QUICK, many_scans, lambda: tf.constant(False))
    with tf.control_dependencies(
        [_allowed_bytes(data), _allowed_size(shape[0], shape[1]), tf.debugging.Assert(~slow, ["too many scans"])]
    ):
        return tf.identity(shape)


def _decode_other(data: tf.Tensor) -> tf.Tensor:
    def png() -> tf.Tensor:
        # The header chunk comes first: width and height are bytes 16..23, big-endian. TensorFlow's message about a
        # shorter file would quote its bytes, which Python could not read.
        with tf.control_dependencies([tf.debugging.Assert(tf.strings.length(data) >= 24, ["no whole header"])]):
            size = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)
        with tf.control_dependencies([_allowed_size(size[1], size[0])]):
            return tf.io.decode_png(data, channels=3)

    def pillow() -> tf.Tensor:
        image = tf.ensure_shape(tf.numpy_function(_decode_with_pillow, [data], tf.uint8), [None, None, 3])
        with tf.control_dependencies([tf.debugging.Assert(tf.size(image) > 0, ["no image that can be decoded"])]):
            return tf.identity(image)

    with tf.control_dependencies([_allowed_bytes(data)]):
        return tf.cond(tf.strings.substr(data, 0, 8) == b"\x89PNG\r\n\x1a\n", png, pillow)


def _decode_with_pillow(data: bytes) -> np.ndarray:
    """Returns uint8 `[H, W, 3]`, or an empty array if the bytes are not an image.

    An exception would fail as well, but TensorFlow logs its traceback.
    """
    data = bytes(data)  # outside of a graph, TensorFlow may give an array
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            if image.width * image.height <= MAX_PIXELS and not is_costly_bitmap(data):
                return np.asarray(image.convert("RGB"))
    except Exception:  # decoders raise all kinds of exceptions for damaged bytes
        pass
    return np.zeros((0, 0, 3), np.uint8)


def _allowed_bytes(data: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for a file out of range."""
    return tf.debugging.Assert(tf.strings.length(data) <= MAX_IMAGE_BYTES, ["too many bytes"])


def _allowed_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for a size out of range. Decoding must wait for it to spare the memory."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.Assert((height > 0) & (width > 0) & (pixels <= MAX_PIXELS), ["too many pixels", height, width])
