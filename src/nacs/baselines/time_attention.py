"""Attention rivals that know the time: multi-head with time encoding, and mTAN.

References:
    Vaswani et al., Attention Is All You Need, 2017. arXiv 1706.03762
    Shukla, Marlin, Multi-Time Attention Networks, ICLR 2021. arXiv 2101.10318
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["TimeAttention", "TimeEncoding"]


class TimeEncoding(nn.Module):
    """A linear wave of time and learned sines, as wide as the tokens (Time2Vec)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # Periods from one to a thousand average steps.
        frequencies = 2 * torch.pi * torch.logspace(-3, 0, width)
        self.frequencies = nn.Parameter(frequencies)
        self.phases = nn.Parameter(2 * torch.pi * torch.rand(width))

    def forward(
        self, times: Float[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens width"]:
        """One vector a time stamp."""
        wave = times.unsqueeze(-1) * self.frequencies + self.phases
        return torch.cat([wave[..., :1], wave[..., 1:].sin()], -1)


class TimeAttention(nn.Module):
    """`nn.MultiheadAttention` that knows the time, by queries and keys.

    Args:
        width: Of the tokens.
        heads: Attention heads.
        times_alone: Whether queries and keys are the time encoding alone, so that who
            hears whom does not depend on what they are (mTAN), or tokens to which it is
            added.
        causal: No token hears a later one.
    """

    def __init__(
        self, width: int, heads: int, causal: bool = False, *, times_alone: bool
    ) -> None:
        super().__init__()
        self.causal = causal
        self.times_alone = times_alone
        self.encoding = TimeEncoding(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        times: Float[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """What every token hears."""
        asked = self.encoding(times)
        asked = asked if self.times_alone else asked + tokens
        padding = None if keep is None else ~keep
        later = None
        if self.causal:
            later = times.new_ones(times.shape[1:] * 2, dtype=torch.bool).triu(1)
        return self.attention(
            asked, asked, tokens, padding, need_weights=False, attn_mask=later
        )[0]
