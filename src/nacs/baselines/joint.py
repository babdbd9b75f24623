"""Perceiver IO that reads an input and its context side by side.

    input tokens, context tokens  →  one list of tokens  →  the executor

A conditional circuit is written from its context; this rival has one circuit for all
and finds the context among its tokens. Without a context it is a Perceiver IO.

References:
    Jaegle et al., Perceiver IO, 2022. https://arxiv.org/abs/2107.14795
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nacs.attentive import AttentiveCircuit, AttentiveConfig
from nacs.tokenizers import build_tokenizer

__all__ = ["JointPerceiver"]


class JointPerceiver(nn.Module):
    """An executor whose tokens are those of the input and those of the context.

    Args:
        config: Of the executor; `context` says how the context becomes tokens.

    Raises:
        ValueError: If the two kinds of tokens are not equally wide, or the circuit is
            a conditional one.
    """

    def __init__(self, config: AttentiveConfig) -> None:
        super().__init__()
        self.config, told = config, config.context
        if config.generator != "unconditional":
            raise ValueError(
                'expected generator="unconditional": one circuit reads both, got '
                f'"{config.generator}".'
            )
        if told is not None and told.width != config.tokenizer.width:
            raise ValueError(
                "expected context tokens as wide as the input's, got "
                f"{told.width} and {config.tokenizer.width}."
            )
        self.circuit = AttentiveCircuit(config)
        self.context_tokenizer = None if told is None else build_tokenizer(told)

    def forward(
        self,
        inputs: Tensor,
        keep: Bool[Tensor, "batch tokens"] | None = None,
        context: Tensor | None = None,
        context_keep: Bool[Tensor, "batch context"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Logits; see `AttentiveCircuit.forward`."""
        tokens, keep = self.circuit.tokenizer(inputs, keep)
        if self.context_tokenizer is not None:
            if context is None:
                raise ValueError("expected `context`, got None.")
            told, told_keep = self.context_tokenizer(context, context_keep)
            if keep is not None or told_keep is not None:
                parts = zip((tokens, told), (keep, told_keep), strict=True)
                keep = torch.cat([_there(*part) for part in parts], -1)
            tokens = torch.cat([tokens, told], -2)
        return self.circuit.execute(self.circuit.design(), tokens, keep)


def _there(tokens: Tensor, keep: Tensor | None) -> Tensor:
    """Where there are tokens: everywhere if nothing says otherwise."""
    if keep is not None:
        return keep
    return torch.ones(tokens.shape[:-1], dtype=torch.bool, device=tokens.device)
