"""What a Neural Attentive Circuit is made of."""

from dataclasses import dataclass, field
from typing import Literal

from nacs.checks import check_choices, check_least
from nacs.tokenizers import TokenizerConfig

__all__ = ["AttentiveConfig", "Evaluation"]

Evaluation = Literal["expected", "threshold", "sample"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentiveConfig:
    """Hyperparameters of an attentive circuit. The defaults are table 4's sizes."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """How the executor's input becomes tokens."""

    context: TokenizerConfig | None = None
    """How a conditional generator's own input becomes tokens; None: the same tokens."""

    classes: int = 200
    """Width of the answer: classes, or regression targets."""

    modules: int = 320
    """Processor modules U_p."""

    outputs: int = 64
    """Read-out modules U_o."""

    readers: int = 0
    """Modules that read the tokens in the relay wiring; 0 in the other wirings."""

    width: int = 384
    """Width of the states, d_model."""

    code: int = 384
    """Width of the codes."""

    signature: int = 64
    """Width of the signatures."""

    layers: int = 8
    """Propagator layers L."""

    heads: int = 6
    """Attention heads of the propagators."""

    head_width: int = 64
    """Width of one head."""

    edge_heads: int = 1
    """Attention heads of the read-in and the read-out."""

    hidden: int = 1536
    """Width of the feed-forward networks after the activation."""

    gated: bool = True
    """GEGLU rather than GELU."""

    layer_scale: float | None = None
    """Start of a learned factor per channel of every branch; None for none."""

    wiring: Literal["paper", "released", "relay"] = "paper"
    """Who reads: the processors with their own codes (paper), with separate codes
    (released), or separate reader modules that everybody hears (relay)."""

    states: Literal["mlp", "code", "seeded", "free"] = "mlp"
    """θ⁰: a two-layer MLP of the code (paper), the code (released), a normalised linear
    map of it (relay), or free parameters (Perceiver IO)."""

    generator: Literal["unconditional", "conditional"] = "unconditional"
    """One circuit for all, or one per sample written from the context."""

    modulated: bool = True
    """Whether codes modulate the layers; False removes every ModFC's modulation."""

    graph: Literal["learned", "frozen", "complete"] = "learned"
    """Whether the signatures learn the graph, keep it, or there is none (K ≡ 1)."""

    prior: str = "scale-free"
    """The graph prior of the regulariser; see `nacs.attentive.priors`."""

    regulariser: Literal["mse", "kl", "repulsion"] = "mse"
    """What keeps the signatures from collapsing: the squared error (eq 6) or the KL
    divergence from the prior, or pushing signatures apart, whatever the prior. A
    conditional circuit has none, as in the paper."""

    start: Literal["random", "prior"] = "random"
    """Signatures at the start: random, or fitted to a graph drawn from the prior."""

    bandwidth: float = 1.0
    """ε of eq 2. At 1 no graph can be sparse; 0.25 can reach every prior."""

    learnable_bandwidth: bool = False
    """Whether every layer trains its own ε."""

    truncation: float | None = None
    """Largest signature distance at which a link exists."""

    temperature: float = 0.5
    """τ of the Concrete distribution."""

    evaluation: Evaluation = "expected"
    """How links act in evaluation: log P, P ≥ ½, or sampled as in training."""

    read_in: Literal["auto", "folded", "plain"] = "auto"
    """Form of the read-in; all give the same numbers."""

    module_dropout: float = 0.0
    """Largest share of processors dropped at random per training batch (ours)."""

    kept: int = 0
    """Processors a conditional circuit keeps per sample, by importance; 0 for all."""

    edges_removed: float = 0.0
    """Share of the edges between processors eliminated, weakest first."""

    def __post_init__(self) -> None:
        check_choices(self)
        counts = ("classes", "modules", "outputs", "width", "code", "signature")
        check_least(self, 1, *counts, "heads", "head_width", "edge_heads", "hidden")
        check_least(self, 1, "layers")
        check_least(self, 0, "readers", "kept")
        if self.truncation is not None and not self.truncation > 0:
            raise ValueError(
                f"`truncation` must be positive or None, got {self.truncation}; at 0 "
                "no module would hear another."
            )
        if self.generator == "conditional" and self.graph == "frozen":
            raise ValueError(
                'a conditional generator writes graphs, got graph="frozen"; use '
                '"learned" or "complete".'
            )
        for name in ("bandwidth", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"`{name}` must be positive, got {getattr(self, name)}; "
                    "0.25 is a good start."
                )
        for name in ("module_dropout", "edges_removed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"`{name}` must lie in [0, 1], got {getattr(self, name)}."
                )
        if self.states == "code" and self.code != self.width:
            raise ValueError(
                f'`states="code"` needs codes as wide as states, got code={self.code} '
                f"and width={self.width}; set code={self.width}."
            )
        if (self.wiring == "relay") != (self.readers > 0):
            raise ValueError(
                f'`readers` is for `wiring="relay"` alone, got readers={self.readers} '
                f'and wiring="{self.wiring}".'
            )
        if not 0 <= self.kept <= self.modules:
            raise ValueError(
                f"`kept` must lie in [0, modules={self.modules}], got {self.kept}."
            )

    @property
    def code_features(self) -> int:
        """Width of the codes as layers see them: 0 where nothing is modulated."""
        return self.code if self.modulated else 0
