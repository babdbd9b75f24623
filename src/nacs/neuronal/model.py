"""A stack of neuronal attention layers: from series, bytes or points to answers."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nacs.neuronal.attention import NeuronalAttention, StreamState
from nacs.neuronal.config import NeuronalModelConfig
from nacs.tokenizers import build_tokenizer

__all__ = ["ModelState", "NeuronalModel"]


class ModelState(NamedTuple):
    """What a stream remembers: every layer's state and the tokens' running mean."""

    layers: tuple[StreamState, ...]
    total: Float[Tensor, "batch width"]
    seen: int


class Block(nn.Module):
    """Attention, then a feed-forward network, each pre-normed with a residual."""

    def __init__(self, config: NeuronalModelConfig) -> None:
        super().__init__()
        width = config.attention.width
        self.attention_norm = nn.LayerNorm(width)
        self.attention = NeuronalAttention(config.attention)
        self.ffn = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, width),
        )

    def forward(
        self,
        states: Float[Tensor, "batch tokens width"],
        times: Float[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """The tokens after one block."""
        heard, _ = self.attention(
            self.attention_norm(states), query_times=times, keep=keep
        )
        states = states + heard
        return states + self.ffn(states)

    def step(
        self, token: Tensor, time: Tensor, state: StreamState | None
    ) -> tuple[Tensor, StreamState]:
        """One token of a stream."""
        heard, state = self.attention.step(self.attention_norm(token), time, state)
        token = token + heard
        return token + self.ffn(token), state


class NeuronalModel(nn.Module):
    """Tokens, blocks of neuronal attention, pooling, and a linear head.

    Args:
        config: Sizes and options; see `nacs.neuronal.presets`.

    Example:
        >>> from nacs.neuronal import presets
        >>> model = NeuronalModel(presets.tiny())
        >>> model(torch.rand(2, 30, 1)).shape      # time stamps alone: no features
        torch.Size([2, 2])
    """

    def __init__(self, config: NeuronalModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = build_tokenizer(config.tokenizer)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.attention.width)
        self.head = nn.Linear(config.attention.width, config.classes)

    def forward(
        self,
        inputs: Tensor,
        keep: Bool[Tensor, "batch tokens"] | None = None,
        context: Tensor | None = None,  # noqa: ARG002
        context_keep: Tensor | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "batch *tokens classes"]:
        """Logits, or numbers; one a token if nothing is pooled.

        Args:
            inputs: What the tokenizer takes. Column 0 of a series is its time stamp;
                tokens of other kinds are a time of 1 apart.
            keep: False where a ragged input is padding.
            context: Not used; part of every model's call.
            context_keep: Not used.
        """
        tokens, keep = self.tokenizer(inputs, keep)
        times = self._times(inputs, tokens, keep)
        for block in self.blocks:
            tokens = block(tokens, times, keep)
        return self.head(self._pool(self.norm(tokens), keep))

    def step(
        self,
        values: Float[Tensor, "batch features"],
        time: Float[Tensor, " batch"],
        state: ModelState | None = None,
    ) -> tuple[Float[Tensor, "batch classes"], ModelState]:
        """Process one observation of a series; the answer to all of it so far.

        The same numbers as `forward` on the whole causal series, with memory bounded by
        the attention's `window`.

        Args:
            values: Observed values; NaN is missing.
            time: Time stamps, in the unit of training.
            state: Of the step before; None at the start.
        """
        observed = torch.cat([time.unsqueeze(-1), values], -1).unsqueeze(1)
        token: Tensor = self.tokenizer(observed)[0].squeeze(1)
        before = (None,) * len(self.blocks) if state is None else state.layers
        layers: list[StreamState] = []
        for block, old in zip(self.blocks, before, strict=True):
            assert isinstance(block, Block)
            token, new = block.step(token, time, old)
            layers.append(new)
        last = self.norm(token)
        total = last if state is None else state.total + last
        seen = 1 if state is None else state.seen + 1
        pooled = total / seen if self.config.pooling == "mean" else last
        return self.head(pooled), ModelState(tuple(layers), total, seen)

    def _times(
        self, inputs: Tensor, tokens: Tensor, keep: Tensor | None
    ) -> Float[Tensor, "batch tokens"]:
        if self.config.tokenizer.kind == "series":
            times = inputs[..., 0]
            return times if keep is None else times.masked_fill(~keep, 0)
        count = tokens.shape[1]
        place = torch.arange(count, device=tokens.device, dtype=tokens.dtype)
        return place.expand(len(tokens), count)

    def _pool(
        self, tokens: Float[Tensor, "batch tokens width"], keep: Tensor | None
    ) -> Tensor:
        if self.config.pooling == "none":
            return tokens
        if keep is None:
            return tokens.mean(1) if self.config.pooling == "mean" else tokens[:, -1]
        if self.config.pooling == "mean":
            weight = keep.unsqueeze(-1).to(tokens.dtype)
            return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
        place = torch.arange(keep.shape[1], device=keep.device)
        last = (place * keep).max(-1).values
        return tokens[torch.arange(len(tokens), device=tokens.device), last]
