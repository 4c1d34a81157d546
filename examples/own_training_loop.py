"""Trains a network in a loop of your own, with your own loss and Optax, on the digits of scikit-learn.

    python examples/own_training_loop.py
    python examples/own_training_loop.py --steps 600 --width 0.5

Needs scikit-learn, which `pip install 'effnetv2_jax[train]'` installs.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import effnetv2_jax as e


def focal_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the cross-entropy with less weight on the images that are already right. Lin et al., arXiv 1708.02002."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean((1 - jnp.exp(-losses)) ** 2 * losses)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns 1,797 images `[N, 32, 32, 3]` from -1 to 1, and their labels `[N]`."""
    data = load_digits()
    images = data.images.repeat(4, axis=1).repeat(4, axis=2)[..., None].repeat(3, axis=3)
    return (images / 8 - 1).astype(np.float32), data.target


def main(argv: Sequence[str] | None = None) -> float:
    """Trains, and returns the share of the held-out digits that the network recognises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=float, default=0.25, help="factor for the widths of B0")
    parser.add_argument("--depth", type=float, default=0.34, help="factor for the depths of B0")
    arguments = parser.parse_args(argv)

    # The loop, in thirty lines. On a CPU, fast_cpu_gradients makes a step several times faster. It allows jax.grad
    # only; leave it out if you need jax.jvp or jax.hessian. On a TPU or GPU it changes nothing.
    spec = e.VARIANTS["efficientnetv2-b0"].scaled(arguments.width, arguments.depth)
    model = e.create_model(spec, num_classes=10, fast_cpu_gradients=True)
    variables: Any = e.init_variables(model, seed=0)
    optimizer = optax.adamw(optax.cosine_decay_schedule(0.003, arguments.steps))
    opt_state = optimizer.init(variables["params"])

    def loss_of(params, batch_stats, images, labels, key):
        logits, changed = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],  # BatchNorm updates its averages
            rngs={"dropout": key},
        )
        return focal_loss(logits, labels), changed["batch_stats"]

    @jax.jit
    def train_step(variables, opt_state, images, labels, key):
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, batch_stats), grads = gradient(variables["params"], variables["batch_stats"], images, labels, key)
        updates, opt_state = optimizer.update(grads, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return {"params": params, "batch_stats": batch_stats}, opt_state, loss

    images, labels = digits()
    rng, key = np.random.default_rng(0), jax.random.key(0)
    held_out, training = np.split(rng.permutation(len(labels)), [360])
    for step in range(arguments.steps):
        batch, key_of_step = rng.choice(training, arguments.batch_size), jax.random.fold_in(key, step)
        variables, opt_state, loss = train_step(variables, opt_state, images[batch], labels[batch], key_of_step)
        if (step + 1) % 50 == 0 or step + 1 == arguments.steps:
            print(f"step {step + 1}: loss {loss:.4f}")

    logits = jax.jit(model.apply)(variables, images[held_out])
    accuracy = float(np.mean(np.argmax(logits, -1) == labels[held_out]))
    print(f"{100 * accuracy:.1f} % of {len(held_out)} held-out digits are right")
    return accuracy


if __name__ == "__main__":
    main()
