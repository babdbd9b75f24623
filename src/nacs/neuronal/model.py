"""A stack of neuronal attention layers: from series, bytes or points to answers."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from nacs.neuronal.attention import NeuronalAttention, StreamState
from nacs.neuronal.config import NeuronalConfig, NeuronalModelConfig
from nacs.sequence import SequenceModel

__all__ = ["NeuronalMixer", "neuronal_model"]


class NeuronalMixer(nn.Module):
    """Neuronal self-attention as a mixer of tokens."""

    def __init__(self, config: NeuronalConfig) -> None:
        super().__init__()
        self.attention = NeuronalAttention(config)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        times: Float[Tensor, "batch tokens"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """What every token hears."""
        return self.attention(tokens, query_times=times, keep=keep)[0]

    def step(
        self,
        token: Float[Tensor, "batch width"],
        time: Float[Tensor, " batch"],
        state: StreamState | None,
    ) -> tuple[Float[Tensor, "batch width"], StreamState]:
        """What the next token of a stream hears."""
        return self.attention.step(token, time, state)


def neuronal_model(config: NeuronalModelConfig) -> SequenceModel:
    """Tokens, blocks of neuronal attention, pooling, and a linear head.

    Example:
        >>> import torch
        >>> from nacs.neuronal import presets
        >>> model = neuronal_model(presets.tiny())
        >>> model(torch.rand(2, 30, 1)).shape      # time stamps alone: no features
        torch.Size([2, 2])
    """
    return SequenceModel(
        config, [NeuronalMixer(config.attention) for _ in range(config.layers)]
    )
