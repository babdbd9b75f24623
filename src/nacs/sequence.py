"""A model of sequences around any mixer of tokens, so that rivals differ in it alone.

    tokens = tokenizer(inputs)
    for each block:  tokens += mixer(norm(tokens), times);  tokens += ffn(tokens)
    answer = head(pool(norm(tokens)))

A mixer takes tokens, their time stamps and the mask of those that are there.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nacs.checks import check_least
from nacs.hub import HubModel
from nacs.tokenizers import TokenizerConfig, build_tokenizer

__all__ = ["Pooling", "SequenceConfig", "SequenceModel", "SequenceState", "check_sizes"]

Pooling = Literal["mean", "last", "none"]


@runtime_checkable
class SequenceConfig(Protocol):
    """What every configuration of such a model has."""

    @property
    def tokenizer(self) -> TokenizerConfig:
        """How the input becomes tokens, as wide as the model."""
        ...

    @property
    def classes(self) -> int:
        """Width of the answer: classes, or regression targets."""
        ...

    @property
    def layers(self) -> int:
        """Blocks of a mixer and a feed-forward network."""
        ...

    @property
    def hidden(self) -> int:
        """Width of the feed-forward networks."""
        ...

    @property
    def pooling(self) -> Pooling:
        """From tokens to the answer: their mean, the last one, or an answer a token."""
        ...


def check_sizes(config: SequenceConfig, width: int) -> None:
    """Raise ValueError for sizes that fit no sequence model."""
    if config.tokenizer.width != width:
        raise ValueError(
            f"tokens must be as wide as the model, got {config.tokenizer.width} and "
            f"{width}."
        )
    check_least(config, 1, "classes", "layers", "hidden")


class SequenceState(NamedTuple):
    """What a stream remembers: every mixer's state and the tokens' running sum."""

    mixers: tuple[Any, ...]
    total: Float[Tensor, "batch width"]
    seen: int


class Block(nn.Module):
    """A mixer, then a feed-forward network, each pre-normed with a residual."""

    def __init__(self, mixer: nn.Module, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mixer = mixer
        self.ffn = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, width),
        )

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        times: Float[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """The tokens after one block."""
        tokens = tokens + self.mixer(self.norm(tokens), times, keep)
        return tokens + self.ffn(tokens)

    def step(self, token: Tensor, time: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One token of a stream; the mixer must know how."""
        step = getattr(self.mixer, "step", None)
        if step is None:
            raise ValueError(
                f"a {type(self.mixer).__name__} cannot process a stream; use the "
                "neuronal model."
            )
        heard, state = step(self.norm(token), time, state)
        token = token + heard
        return token + self.ffn(token), state


class SequenceModel(HubModel):
    """Tokens, blocks, pooling and a linear head.

    Args:
        config: Sizes.
        mixers: One a block.
    """

    def __init__(self, config: SequenceConfig, mixers: Sequence[nn.Module]) -> None:
        super().__init__()
        width = config.tokenizer.width
        self.config = config
        self.tokenizer = build_tokenizer(config.tokenizer)
        self.blocks = nn.ModuleList(
            Block(each, width, config.hidden) for each in mixers
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.classes)

    def forward(
        self,
        inputs: Tensor,
        keep: Bool[Tensor, "batch tokens"] | None = None,
        context: Tensor | None = None,  # noqa: ARG002
        context_keep: Tensor | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "batch *tokens classes"]:
        """Logits, or numbers; one a token if nothing is pooled.

        Args:
            inputs: What the tokenizer takes. Column 0 of series and frames is the time;
                tokens of other kinds are a time of 1 apart.
            keep: False where a ragged input is padding.
            context: Not used; part of every model's call.
            context_keep: Not used.
        """
        tokens, keep = self.tokenizer(inputs, keep)
        if tokens.shape[1] == 0:
            raise ValueError("expected one token or more a sample, got none.")
        times = self._times(inputs, tokens, keep)
        for block in self.blocks:
            tokens = block(tokens, times, keep)
        return self.head(self._pool(self.norm(tokens), keep))

    def step(
        self,
        values: Float[Tensor, "batch features"],
        time: Float[Tensor, " batch"],
        state: SequenceState | None = None,
    ) -> tuple[Float[Tensor, "batch classes"], SequenceState]:
        """Process one observation of a series; the answer to all of it so far.

        The same numbers as `forward` on the whole causal series. Memory is bounded
        where the mixers' is, by the `window` of neuronal attention.

        Args:
            values: Observed values; NaN is missing.
            time: Time stamps, in the unit of training.
            state: Of the step before; None at the start.

        Raises:
            ValueError: If the mixers cannot, or are not causal.
        """
        observed = torch.cat([time.unsqueeze(-1), values], -1).unsqueeze(1)
        token: Tensor = self.tokenizer(observed)[0].squeeze(1)
        before = (None,) * len(self.blocks) if state is None else state.mixers
        mixers: list[Any] = []
        for block, old in zip(self.blocks, before, strict=True):
            assert isinstance(block, Block)
            token, new = block.step(token, time, old)
            mixers.append(new)
        last = self.norm(token)
        total = last if state is None else state.total + last
        seen = 1 if state is None else state.seen + 1
        pooled = total / seen if self.config.pooling == "mean" else last
        return self.head(pooled), SequenceState(tuple(mixers), total, seen)

    def _times(
        self, inputs: Tensor, tokens: Tensor, keep: Tensor | None
    ) -> Float[Tensor, "batch tokens"]:
        if self.config.tokenizer.kind in {"series", "frames"}:
            times = inputs[..., 0]
            return times if keep is None else times.masked_fill(~keep, 0)
        count = tokens.shape[1]
        place = torch.arange(count, device=tokens.device, dtype=tokens.dtype)
        return place.expand(tokens.shape[0], count)

    def _pool(
        self, tokens: Float[Tensor, "batch tokens width"], keep: Tensor | None
    ) -> Tensor:
        if self.config.pooling == "none":
            return tokens
        if keep is None:
            return tokens.mean(1) if self.config.pooling == "mean" else tokens[:, -1]
        if self.config.pooling == "mean":
            alive = keep.unsqueeze(-1)
            total = torch.where(alive, tokens, 0).sum(1)
            return total / alive.sum(1).clamp(min=1)
        place = torch.arange(keep.shape[1], device=keep.device)
        last = (place * keep).max(-1).values
        return tokens[torch.arange(tokens.shape[0], device=tokens.device), last]
