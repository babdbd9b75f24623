"""Solve the linear ODE whose solution is an attention logit.

Each query-key pair carries one logit a(t), which relaxes towards φ/ω:

    da/dt = φ − ω a,    a(0) = a₀

The *drive* φ says where the pair is pulled, the *decay rate* ω > 0 how fast (1/ω is
the time constant). The solvers share one signature and differ in nothing else.

References:
    Razzaq et al., Neuronal Attention Circuit (NAC) for Representation Learning, 2025.
    https://arxiv.org/abs/2512.10282
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["euler", "exact", "steady"]


def exact(
    drive: Float[Tensor, "*#pairs"],
    rate: Float[Tensor, "*#pairs"],
    elapsed: Float[Tensor, "*#pairs"] | float,
    initial: Float[Tensor, "*#pairs"] | float = 0.0,
) -> Float[Tensor, "*pairs"]:
    """Closed form: a(t) = a₀ exp(−ωt) + φ (1 − exp(−ωt)) / ω.

    Example:
        >>> exact(torch.tensor(2.0), torch.tensor(4.0), elapsed=torch.tensor(9.0))
        tensor(0.5000)
    """
    # expm1 because 1 - exp(-ωt) cancels to 0 in float32 once ωt < 3e-8.
    grown = -torch.expm1(-rate * elapsed)
    return initial * (1 - grown) + drive * grown / rate


def euler(
    drive: Float[Tensor, "*#pairs"],
    rate: Float[Tensor, "*#pairs"],
    elapsed: Float[Tensor, "*#pairs"] | float,
    initial: Float[Tensor, "*#pairs"] | float = 0.0,
    *,
    steps: int = 6,
) -> Float[Tensor, "*pairs"]:
    """Explicit Euler: `steps` times a ← a + (t / steps) (φ − ω a).

    Overshoots the equilibrium where ω t > steps and diverges where ω t > 2 steps:
    the attention layer therefore waits no longer than t = steps / ω, where the first
    step lands on the equilibrium.
    """
    step = elapsed / steps
    logit = initial + torch.zeros_like(drive)
    for _ in range(steps):
        logit = logit + step * (drive - rate * logit)
    return logit


def steady(
    drive: Float[Tensor, "*#pairs"],
    rate: Float[Tensor, "*#pairs"],
    elapsed: Float[Tensor, "*#pairs"] | float,  # noqa: ARG001
    initial: Float[Tensor, "*#pairs"] | float = 0.0,  # noqa: ARG001
) -> Float[Tensor, "*pairs"]:
    """The equilibrium φ/ω, where every logit is after a long time."""
    return drive / rate
