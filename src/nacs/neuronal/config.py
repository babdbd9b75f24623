"""What a neuronal attention layer, and a model of such layers, is made of."""

from dataclasses import dataclass, field
from typing import Literal

from nacs.checks import check_choices, check_heads, check_least
from nacs.sequence import Pooling, check_sizes
from nacs.tokenizers import TokenizerConfig

__all__ = ["NeuronalConfig", "NeuronalModelConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuronalConfig:
    """Hyperparameters of one neuronal attention layer."""

    width: int = 64
    """Width of the residual stream, shared evenly between heads."""

    heads: int = 4
    """Number of attention heads."""

    top_k: int = 8
    """Keys each query is paired with, the rest get no logit at all; 0 for all keys."""

    selection: Literal["exact", "blocks"] = "exact"
    """How the top keys are found: from all scores, or within the best blocks of keys,
    which takes less than T² work and finds most of them."""

    block: int = 32
    """Keys in a block."""

    blocks: int = 4
    """Blocks a query looks into beside its own."""

    gate: Literal["sparse", "circuit", "dense"] = "sparse"
    """Projection of queries, keys and values: one sparse layer, an NCP of its own as in
    the paper, or a dense layer."""

    sparsity: float = 0.5
    """Fraction of synapses the NCP wiring removes, in [0, 1)."""

    inter: int = 32
    """Inter neurons of the backbone."""

    command: int = 16
    """Command neurons of the backbone."""

    motor: int = 2
    """Motor neurons of the backbone; half of them feed each head."""

    wiring_seed: int = 22222
    """Of the draw of synapses; this one is the default of ncps. Queries, keys and
    values share it, in every layer, as in the released packages."""

    solver: Literal["exact", "euler", "steady", "score", "uniform"] = "exact"
    """How the logit ODE is solved; see `neuronal.dynamics`. Two controls solve none:
    the score itself as the logit, and equal logits."""

    steps: int = 6
    """Steps of the Euler solver."""

    start: Literal["score", "zero"] = "score"
    """a₀: q · k / √d, or 0 as in the paper. Without the score nothing trains the
    selection of keys, because positions carry no gradient."""

    horizon: Literal["unit", "gate", "elapsed"] = "unit"
    """How long a logit relaxes: 1, a gate in (0, 1) of the pair and the time between
    query and key as in the paper, or that time on a learned scale."""

    integration: Literal["none", "gate", "quadrature"] = "none"
    """Weight of a value beside its attention: none, the gated horizon as in the paper,
    or the spacing of the keys' time stamps, which makes the sum an integral over time
    and needs all keys."""

    logit_scale: bool = True
    """Whether every head scales its logits by a learned factor. Without, and from 0,
    8 exact logits lie in [0, 1) and no weight can exceed 0.28."""

    causal: bool = False
    """Whether a query sees no later key."""

    window: int = 0
    """Keys a causal query sees, its own the last; 0 for all. It bounds a stream's
    memory."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_heads(self.width, self.heads)
        check_least(self, 0, "top_k", "window", "blocks")
        check_least(self, 1, "block", "inter", "command", "steps")
        check_least(self, 2, "motor")
        if not 0 <= self.sparsity < 1:
            raise ValueError(
                f"`sparsity` must lie in [0, 1), got {self.sparsity}; it is the "
                "fraction of synapses removed, so 1 would leave no circuit."
            )
        if self.gate == "circuit" and self.width < 4:
            raise ValueError(
                "a circuit has too few neurons between so few channels, got gate="
                f"'circuit' and width={self.width}; set `width` to 4 or more."
            )
        if self.integration == "quadrature" and self.top_k:
            raise ValueError(
                "quadrature sums over all keys, got "
                f"top_k={self.top_k}; set top_k=0, or another `integration`."
            )
        if self.window and not self.causal:
            raise ValueError(
                f"`window` needs causal=True, got window={self.window}; a window looks "
                "back from a query."
            )
        if self.selection == "blocks" and not 0 < self.top_k <= self.block:
            raise ValueError(
                f"selection by blocks needs 1 to `block`={self.block} keys a query, "
                f"got top_k={self.top_k}."
            )
        if self.selection == "blocks" and self.window:
            raise ValueError("selection by blocks knows no `window`; set window=0.")

    @property
    def timed(self) -> bool:
        """Whether a logit relaxes as long as its query and key are apart."""
        return self.horizon == "elapsed" and self.solver in {"exact", "euler"}

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.heads


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuronalModelConfig:
    """A stack of neuronal attention layers between a tokenizer and a head."""

    tokenizer: TokenizerConfig = field(
        default_factory=lambda: TokenizerConfig(kind="series", width=64)
    )
    """How the input becomes tokens, as wide as the layers."""

    attention: NeuronalConfig = field(default_factory=NeuronalConfig)
    """Every layer's attention."""

    classes: int = 2
    """Width of the answer: classes, or regression targets."""

    layers: int = 2
    """Blocks of attention and feed-forward network."""

    hidden: int = 128
    """Width of the feed-forward networks."""

    pooling: Pooling = "mean"
    """From tokens to the answer: their mean, the last one, or an answer a token, as for
    next-step prediction."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_sizes(self, self.attention.width)
