"""What a neuronal attention layer is called with: does it fit together?

Torch would broadcast what does not into nonsense, and compiled code would read past the
end of it.
"""

import torch
from torch import Tensor

from nacs.neuronal.config import NeuronalConfig

__all__ = ["check_call", "check_step", "without_padding"]


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
    for name, tokens, times in (
        ("query", query, query_times),
        ("key", key, key_times),
        ("value", value, None),
    ):
        if tokens.ndim != 3 or tokens.shape[-1] != config.width:
            raise ValueError(
                f"expected {name} of shape (batch, tokens, {config.width}), "
                f"got {tuple(tokens.shape)}."
            )
        if times is not None:
            _expect(f"{name}_times", times, tokens.shape[:2])
        needed = config.timed or (name == "key" and config.integration == "quadrature")
        if times is None and needed and name != "value":
            raise ValueError(
                f"this layer needs `{name}_times`: its horizon or integration "
                "depends on them, got None."
            )
    batch, asked, count = query.shape[0], query.shape[1], key.shape[1]
    _expect("key", key, (batch, count, config.width))
    _expect("value", value, (batch, count, config.width))
    if config.horizon == "gate" and (query_times is None) != (key_times is None):
        raise ValueError(
            "expected the times of both queries and keys, or of neither, got "
            f"{'key_times' if query_times is None else 'query_times'} alone."
        )
    if keep is not None:
        _expect("keep", keep, (batch, count), torch.bool)
    if allowed is not None:
        first = 1 if allowed.shape[:1] == (1,) else batch
        _expect("allowed", allowed, (first, asked, count), torch.bool)


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
    _expect("time", time, token.shape[:1])
    if known is not None and known.shape[0] != token.shape[0]:
        raise ValueError(
            f"the state is of a batch of {known.shape[0]}, the token of one of "
            f"{token.shape[0]}; start a stream without a state."
        )


def without_padding(each: Tensor, keep: Tensor | None) -> Tensor:
    """Tokens or their stamps, 0 where they are padding: 0 · NaN would be NaN."""
    if keep is None:
        return each
    return each.masked_fill(~(keep if each.ndim == 2 else keep.unsqueeze(-1)), 0)


def _expect(
    name: str, found: Tensor, shape: tuple[int, ...], kind: torch.dtype | None = None
) -> None:
    if found.shape != shape or (kind is not None and found.dtype != kind):
        wanted, came = (
            f"{tuple(size)}{'' if kind is None else f' of {what}'}"
            for size, what in ((shape, kind), (found.shape, found.dtype))
        )
        raise ValueError(f"expected {name} of shape {wanted}, got {came}.")
