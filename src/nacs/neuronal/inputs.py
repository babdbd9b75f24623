"""What a neuronal attention layer is called with: does it fit together?

Torch would broadcast what does not into nonsense, and compiled code would read past the
end of it.
"""

import torch
from torch import Tensor

from nacs.checks import expect
from nacs.neuronal.config import NeuronalConfig

__all__ = ["check_call", "check_step"]


def check_call(
    config: NeuronalConfig,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_times: Tensor | None,
    key_times: Tensor | None,
    keep: Tensor | None,
    allowed: Tensor | None,
) -> None:
    """Raise ValueError for arguments of `NeuronalAttention.forward` that do not fit."""
    for name, tokens in (("query", query), ("key", key), ("value", value)):
        if tokens.ndim != 3 or tokens.shape[-1] != config.width:
            raise ValueError(
                f"expected {name} of shape (batch, tokens, {config.width}), "
                f"got {tuple(tokens.shape)}."
            )
    batch, asked, count = query.shape[0], query.shape[1], key.shape[1]
    expect("key", key, (batch, count, config.width))
    expect("value", value, key.shape)
    spaced = config.integration == "quadrature"
    for name, times, number, needed in (
        ("query", query_times, asked, config.timed),
        ("key", key_times, count, config.timed or spaced),
    ):
        if times is not None:
            expect(f"{name}_times", times, (batch, number))
        elif needed:
            raise ValueError(
                f"this layer needs `{name}_times`: its horizon or integration "
                "depends on them, got None."
            )
    if config.horizon == "gate" and (query_times is None) != (key_times is None):
        raise ValueError(
            "expected the times of both queries and keys, or of neither, got "
            f"{'key_times' if query_times is None else 'query_times'} alone."
        )
    if keep is not None:
        expect("keep", keep, (batch, count), torch.bool)
    if allowed is not None:
        first = 1 if allowed.shape[:1] == (1,) else batch
        expect("allowed", allowed, (first, asked, count), torch.bool)


def check_step(
    config: NeuronalConfig, token: Tensor, time: Tensor, known: Tensor | None
) -> None:
    """Raise ValueError for arguments of `NeuronalAttention.step` that do not fit.

    Args:
        config: Of the layer.
        token: The next token.
        time: Its time stamp.
        known: Keys of the state.
    """
    if not config.causal:
        raise ValueError(
            "a stream needs a causal layer, got causal=False; set causal=True, and "
            "a `window` to bound its memory."
        )
    if config.selection == "blocks":
        raise ValueError(
            "a stream has no blocks to choose from, got selection='blocks'; use "
            "selection='exact'."
        )
    if token.ndim != 2 or token.shape[1] != config.width:
        raise ValueError(
            f"expected a token of shape (batch, {config.width}), got "
            f"{tuple(token.shape)}."
        )
    expect("time", time, token.shape[:1])
    if known is not None and known.shape[0] != token.shape[0]:
        raise ValueError(
            f"the state is of a batch of {known.shape[0]}, the token of one of "
            f"{token.shape[0]}; start a stream without a state."
        )
