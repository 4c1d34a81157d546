"""Writes weights for timm, reads them in PyTorch, and reads them back: the same numbers, to the bit.

    python examples/pytorch_weights.py
    python examples/pytorch_weights.py --weights runs/digits

Without --weights, it uses a fresh network with ten classes. If timm is installed, its network is built from the folder
and its logits are compared with this project's.

Needs PyTorch: pip install 'effnetv2_jax[torch]' (and timm, for the comparison of logits)
"""

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from safetensors.torch import load_file

import effnetv2_jax as e


def main(argv: Sequence[str] | None = None) -> None:
    """Writes, reads and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="a file or folder of any framework (default: a fresh B0)")
    parser.add_argument("--out", type=Path, default=Path("exported"), help="the folder that timm reads")
    arguments = parser.parse_args(argv)

    if arguments.weights:
        weights = e.load_weights(arguments.weights)
        variables, spec, provenance = weights.variables, weights.provenance.spec, weights.provenance
        model = weights.model()
    else:
        spec, provenance = e.VARIANTS["efficientnetv2-b0"], None
        model = e.create_model(spec, num_classes=10)
        variables = e.init_variables(model, seed=0)

    # Out: a folder for timm, and a .pth file such as torch.save writes.
    e.save_variables(arguments.out, variables, spec, target="timm", provenance=provenance)
    state = load_file(arguments.out / "model.safetensors")
    torch.save(state, arguments.out / "weights.pth")
    print(f"{arguments.out}: {len(state)} tensors, such as {min(state)} {list(state[min(state)].shape)}")

    # Back: each tensor of the file is used exactly once.
    back = e.load_variables(arguments.out / "weights.pth", spec, framework="timm")
    same = jax.tree.map(np.array_equal, variables, back)
    print(f"{sum(jax.tree.leaves(same))} of {len(jax.tree.leaves(same))} arrays are the same to the bit")

    if importlib.util.find_spec("timm"):
        compare_with_timm(arguments.out, model, variables)
    else:
        print("timm is not installed, so its logits are not compared")


def compare_with_timm(folder: Path, model: e.EfficientNetV2, variables: dict[str, Any]) -> None:
    """Prints the largest difference between the logits of timm's network and of this project's."""
    import timm

    images = np.random.default_rng(0).normal(size=(2, 96, 96, 3)).astype(np.float32)
    with torch.inference_mode():
        network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        theirs = network(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    ours = jax.jit(model.apply)(variables, images)
    print(
        f"largest difference of the logits: {np.abs(ours - theirs).max():.1e}; largest logit: {np.abs(ours).max():.1e}"
    )


if __name__ == "__main__":
    main()
