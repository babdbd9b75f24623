"""The authors' layer, from PyPI, as a mixer in our sequence model."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from nacs.models import Model
from nacs.sequence import Pooling, SequenceModel
from nacs.tokenizers import TokenizerConfig

__all__ = ["TORCH_NAC"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchNacConfig:
    """A sequence model around torch-nac 0.0.2, exact mode, 8 keys a query."""

    tokenizer: TokenizerConfig = field(
        default_factory=lambda: TokenizerConfig(kind="series", width=32)
    )
    classes: int = 2
    heads: int = 2
    layers: int = 1
    hidden: int = 64
    pooling: Pooling = "mean"


class TorchNac(nn.Module):
    """Its mask is no mask (padding takes part), so none is given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        from torch_nac import layers

        made: Any = layers.NAC(
            input_dim=width,
            d_model=width,
            num_heads=heads,
            topk=8,
            return_sequences=True,
        )
        self.layer = made

    def forward(self, tokens: Any, times: Any, keep: Any = None) -> Any:
        return self.layer((tokens, times))


def build(config: TorchNacConfig) -> SequenceModel:
    width = config.tokenizer.width
    return SequenceModel(
        config, [TorchNac(width, config.heads) for _ in range(config.layers)]
    )


TORCH_NAC = Model(
    TorchNacConfig,
    build,
    {
        "tiny": TorchNacConfig,
        "small": lambda: TorchNacConfig(
            tokenizer=TokenizerConfig(kind="series", width=64),
            heads=4,
            layers=2,
            hidden=128,
        ),
    },
)
