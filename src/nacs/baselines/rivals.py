"""Rivals of the neuronal model: the same sequence model around another mixer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import nn

from nacs.baselines.liquid import Liquid
from nacs.baselines.ode import ContiFormer, OdeRecurrent
from nacs.baselines.recurrent import PhasedLSTM, Recurrent
from nacs.baselines.time_attention import TimeAttention
from nacs.checks import check_choices, check_heads
from nacs.sequence import Pooling, SequenceModel, check_sizes
from nacs.tokenizers import TokenizerConfig

__all__ = ["MIXERS", "Mixer", "RivalConfig", "rival"]

Mixer = Literal[
    "rnn",
    "lstm",
    "gru",
    "phased-lstm",
    "cfc",
    "ltc",
    "gru-ode",
    "ct-rnn",
    "contiformer",
    "multi-head",
    "mtan",
]

MIXERS: dict[str, Callable[..., nn.Module]] = {
    "rnn": lambda width, *_: Recurrent(width, "rnn"),
    "lstm": lambda width, *_: Recurrent(width, "lstm"),
    "gru": lambda width, *_: Recurrent(width, "gru"),
    "phased-lstm": lambda width, *_: PhasedLSTM(width),
    "cfc": lambda width, *_: Liquid(width, "cfc"),
    "ltc": lambda width, *_: Liquid(width, "ltc"),
    "gru-ode": lambda width, *_: OdeRecurrent(width, "gru-ode"),
    "ct-rnn": lambda width, *_: OdeRecurrent(width, "ct-rnn"),
    "contiformer": ContiFormer,
    "multi-head": lambda *sizes: TimeAttention(*sizes, times_alone=False),
    "mtan": lambda *sizes: TimeAttention(*sizes, times_alone=True),
}
"""From width, heads and whether no token hears a later one to a mixer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RivalConfig:
    """Hyperparameters of a sequence model around a rival mixer."""

    mixer: Mixer = "gru"
    """What mixes the tokens."""

    tokenizer: TokenizerConfig = field(
        default_factory=lambda: TokenizerConfig(kind="series", width=64)
    )
    """How the input becomes tokens, as wide as the model."""

    classes: int = 2
    """Width of the answer: classes, or regression targets."""

    heads: int = 4
    """Heads of a mixer that attends."""

    layers: int = 2
    """Blocks of a mixer and a feed-forward network."""

    hidden: int = 128
    """Width of the feed-forward networks."""

    pooling: Pooling = "mean"
    """From tokens to the answer: their mean, the last one, or an answer a token."""

    causal: bool = False
    """Whether no token of a mixer that attends hears a later one; others never do."""

    def __post_init__(self) -> None:
        if self.mixer not in get_args(Mixer):
            raise ValueError(
                f"there is no mixer '{self.mixer}'; mixers: {', '.join(MIXERS)}."
            )
        check_choices(self)
        check_heads(self.tokenizer.width, self.heads)
        check_sizes(self, self.tokenizer.width)


def rival(config: RivalConfig) -> SequenceModel:
    """The sequence model of `nacs.neuronal` around another mixer."""
    build = MIXERS[config.mixer]
    sizes = config.tokenizer.width, config.heads, config.causal
    return SequenceModel(config, [build(*sizes) for _ in range(config.layers)])
