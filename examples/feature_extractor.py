"""Shows the feature maps of a network: a pyramid for detection or segmentation, and one vector for each image.

    python examples/feature_extractor.py
    python examples/feature_extractor.py --variant efficientnetv2-s --weights efficientnetv2-s.tgz --image photo.jpg

Without --weights the network has fresh weights, and without --image it sees noise.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

import effnetv2_jax as e
from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.predict.images import evaluation_image, read_image


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the shape of each feature map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="efficientnetv2-b0", help="one that `effnetv2 info` lists")
    parser.add_argument("--weights", help="a file or folder of any framework")
    parser.add_argument("--image", type=Path, help="an image that Pillow can read")
    parser.add_argument("--size", type=int, help="side of the image in pixels (default: the variant's)")
    arguments = parser.parse_args(argv)

    spec = e.VARIANTS[arguments.variant]
    model = e.create_model(spec, num_classes=0)  # without a classifier
    if arguments.weights:
        variables = e.load_variables(arguments.weights, spec, new_head=0)
    else:
        variables = e.init_variables(model, seed=0)

    size = arguments.size or spec.eval_size
    if arguments.image:
        image = evaluation_image(read_image(arguments.image), preprocessing_family(spec.preprocessing), size)
    else:
        image = np.random.default_rng(0).normal(size=(size, size, 3)).astype(np.float32)

    extract = jax.jit(lambda variables, images: model.apply(variables, images, return_endpoints=True)[1])
    ends = extract(variables, image[None])
    for k in range(1, 6):
        print(f"1/{2**k} of the size: {ends[f'reduction_{k}'].shape}")
    print(f"vector for each image: {ends['pooled_features'].shape}")


if __name__ == "__main__":
    main()
