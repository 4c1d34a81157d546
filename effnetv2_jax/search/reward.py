"""The reward that a search maximises: accuracy, weighed against the time of a training step and the parameters."""

from __future__ import annotations

STEP_EXPONENT, PARAMETERS_EXPONENT = -0.07, -0.05
"""The exponents w and v of the reward A · S^w · P^v. Source: arXiv 2104.00298, section 3.3."""


def reward(top1: float, step_seconds: float, parameters: int) -> float:
    """Returns the reward A · S^w · P^v.

    The paper normalises the time. Other units would multiply all rewards by the same number.

    Args:
      top1: accuracy in per cent.
      step_seconds: seconds of a training step; S is in milliseconds.
      parameters: number of parameters; P is in millions.
    """
    return top1 / 100 * (1e3 * step_seconds) ** STEP_EXPONENT * (parameters / 1e6) ** PARAMETERS_EXPONENT
