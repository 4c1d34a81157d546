"""The weights of `keras.applications.efficientnet_v2`, which were converted from the official ones.

Source of addresses, checksums and preprocessing: keras 3.15.1 applications/efficientnet_v2.py. Source of sizes and
accuracies: the table of keras.io/api/applications, as copies of it show it. Keras itself is under Apache-2.0; it states
no licence of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.pretrained.published_weights import PublishedWeights

_FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2"
_CITATION = "keras.io/api/applications"

# fmt: off
_ROWS = (
    # variant, MD5 with and without the classifier, top-1, MB with the classifier
    ("b0", "21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff", 78.7, 29),
    ("b1", "069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37", 79.8, 34),
    ("b2", "424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb", 80.5, 42),
    ("b3", "1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856", 82.0, 59),
    ("s", "e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070", 83.9, 88),
    ("m", "a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342", 85.3, 220),
    ("l", "27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615", 85.7, 479),
)
# fmt: on


def keras_weights() -> Iterator[PublishedWeights]:
    """Yields the rows of Keras: with a classifier, and without one (`in1k_notop`)."""
    for variant, md5, md5_notop, top1, megabytes in _ROWS:
        spec = VARIANTS[f"efficientnetv2-{variant}"]
        for training, end, num_classes, digest in (("in1k", "", 1000, md5), ("in1k_notop", "_notop", 0, md5_notop)):
            yield PublishedWeights(
                name=f"{spec.name}.{training}",
                framework="keras",
                address=f"{_FOLDER}/{spec.name}{end}.h5",
                eval_size=spec.eval_size,
                preprocessing=spec.preprocessing,
                crop="left to the user",
                num_classes=num_classes,
                top1=top1 if num_classes else None,
                top1_citation=_CITATION if num_classes else "",
                checksum=f"md5:{digest}",
                megabytes=megabytes if num_classes else None,
            )
