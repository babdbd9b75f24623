"""A plain Transformer encoder over the tokens: pre-norm, mean-pooled.

References:
    Vaswani et al., Attention Is All You Need, 2017. https://arxiv.org/abs/1706.03762
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nacs.checks import check_heads, check_least
from nacs.tokenizers import TokenizerConfig, build_tokenizer

__all__ = ["Transformer", "TransformerConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerConfig:
    """Hyperparameters of a Transformer encoder."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """How the input becomes tokens."""

    classes: int = 10
    """Width of the answer: classes, or regression targets."""

    width: int = 128
    """Width of the residual stream."""

    layers: int = 4
    """Encoder layers."""

    heads: int = 4
    """Attention heads."""

    hidden: int = 256
    """Width of the feed-forward networks."""

    def __post_init__(self) -> None:
        check_heads(self.width, self.heads)
        check_least(self, 1, "classes", "layers", "hidden")


class Transformer(nn.Module):
    """Tokens, an encoder in which all attend to all, the mean, a linear head."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = build_tokenizer(config.tokenizer)
        self.embed = nn.Linear(config.tokenizer.width, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            config.hidden,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, config.layers, enable_nested_tensor=False
        )
        self.norm = nn.LayerNorm(config.width)
        self.to_logits = nn.Linear(config.width, config.classes)

    def forward(
        self,
        inputs: Tensor,
        keep: Bool[Tensor, "batch tokens"] | None = None,
        context: Tensor | None = None,  # noqa: ARG002
        context_keep: Tensor | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "batch classes"]:
        """Logits; `keep` is False where a ragged input is padding."""
        tokens, keep = self.tokenizer(inputs, keep)
        padding = None if keep is None else ~keep
        states = self.encoder(self.embed(tokens), src_key_padding_mask=padding)
        states = self.norm(states)
        if keep is None:
            return self.to_logits(states.mean(1))
        alive = keep.unsqueeze(-1)
        total = torch.where(alive, states, 0).sum(1)
        return self.to_logits(total / alive.sum(1).clamp(min=1))
