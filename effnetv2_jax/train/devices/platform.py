"""The platform that JAX computes on."""

from __future__ import annotations

import jax


def require_platform(platform: str) -> None:
    """Checks that JAX computes on a platform; "" accepts any, `accelerator` any but a CPU.

    Raises:
      RuntimeError: if JAX found another platform.
    """
    found = jax.default_backend()
    if platform and platform != found and (platform != "accelerator" or found == "cpu"):
        raise RuntimeError(
            f"the config requires the platform {platform!r}, but JAX found only {found!r}; "
            "--config.platform= accepts any platform"
        )
