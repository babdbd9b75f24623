"""Generators write circuits: learned once for all, or from each sample's context.

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, section 2.2, appendix G.
    https://arxiv.org/abs/2210.08031
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nacs.attentive.attention import SKMDPA
from nacs.attentive.circuit import CircuitDesign, Modules
from nacs.attentive.config import AttentiveConfig
from nacs.attentive.modulated import ModFFN

__all__ = ["ConditionalGenerator", "Descriptors", "UnconditionalGenerator"]


def initial_state(config: AttentiveConfig) -> nn.Module | None:
    """θ⁰ as a function of the code; None where states are free parameters."""
    if config.states == "free":
        return None
    if config.states == "code":
        return nn.Identity()
    if config.states == "seeded":
        return nn.Sequential(
            nn.LayerNorm(config.code), nn.Linear(config.code, config.width)
        )
    return nn.Sequential(
        nn.Linear(config.code, config.width),
        nn.GELU(),
        nn.Linear(config.width, config.width),
    )


class Descriptors(nn.Module):
    """Free signatures and codes (or states) of one group of modules."""

    def __init__(self, count: int, config: AttentiveConfig) -> None:
        super().__init__()
        self.signatures = self.codes = self.states = None
        if config.graph != "complete":
            # Small, because only directions matter: a step then turns them further.
            start = 0.1 * torch.randn(count, config.signature)
            learned = config.graph == "learned"
            self.signatures = nn.Parameter(start, requires_grad=learned)
        if config.modulated or config.states != "free":
            self.codes = nn.Parameter(torch.randn(count, config.code))
        if config.states == "free":
            self.states = nn.Parameter(torch.randn(count, config.width))

    def forward(self, to_state: nn.Module | None) -> Modules:
        """The modules these parameters describe."""
        if self.states is not None:
            return Modules(self.signatures, self.codes, self.states)
        assert to_state is not None
        return Modules(self.signatures, self.codes, to_state(self.codes))


class UnconditionalGenerator(nn.Module):
    """The circuit is a parameter: one for all samples, learned by gradient descent."""

    def __init__(self, config: AttentiveConfig) -> None:
        super().__init__()
        own = {"paper": 0, "released": config.modules, "relay": config.readers}
        count = own[config.wiring]
        self.inputs = Descriptors(count, config) if count else None
        self.processors = Descriptors(config.modules, config)
        self.outputs = Descriptors(config.outputs, config)
        self.to_state = initial_state(config)

    def forward(
        self,
        context: Tensor | None = None,  # noqa: ARG002
        keep: Tensor | None = None,  # noqa: ARG002
    ) -> CircuitDesign:
        """The circuit; without a batch axis, and whatever the context."""
        processors = self.processors(self.to_state)
        inputs = self.inputs(self.to_state) if self.inputs else processors
        return CircuitDesign(inputs, processors, self.outputs(self.to_state))


class ConditionalGenerator(nn.Module):
    """One circuit per sample, written from context tokens (appendix G).

        z = FFN(CrossAttention(learned queries, context)),  z = SelfAttention(z)
        s = FFN_s(z),  c = FFN_c(z),  θ⁰ = MLP(c)

    The attention is `SKMDPA` without links and codes, that is, plain pre-normed
    attention.
    """

    def __init__(self, config: AttentiveConfig, context_width: int) -> None:
        super().__init__()
        count = {"paper": 0, "released": config.modules, "relay": config.readers}
        self.counts = (count[config.wiring], config.modules, config.outputs)
        width, heads, head_width = config.width, config.heads, config.head_width
        # Small, or they drown the context: drawn from N(0, 1), only 1 % of the variance
        # of the codes was between contexts, and training stood still for epochs.
        self.queries = nn.Parameter(0.2 * torch.randn(sum(self.counts), width))
        self.cross = SKMDPA(
            width, sender_width=context_width, heads=heads, head_width=head_width
        )
        self.ffn = ModFFN(width, config.hidden, code_features=0, gated=config.gated)
        self.attention = SKMDPA(width, heads=heads, head_width=head_width)
        self.to_signature = self._head(config, config.signature)
        self.to_code = self._head(config, config.code)
        self.to_state = initial_state(config)

    @staticmethod
    def _head(config: AttentiveConfig, out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, out),
        )

    def forward(
        self,
        context: Float[Tensor, "batch context context_width"],
        keep: Bool[Tensor, "batch context"] | None = None,
    ) -> CircuitDesign:
        """A circuit with a batch axis; context where `keep` is False is not there."""
        asked, told = (Modules(None, None, each) for each in (self.queries, context))
        edges = None if keep is None else keep.unsqueeze(-2)
        z = self.ffn(self.cross(asked, told, edges), None)
        z = Modules(None, None, z)
        z = self.attention(z, z)
        codes = self.to_code(z)
        states = z if self.to_state is None else self.to_state(codes)
        groups = zip(
            *(each.split(self.counts, -2) for each in (self.to_signature(z), codes)),
            states.split(self.counts, -2),
            strict=True,
        )
        inputs, processors, outputs = (Modules(*each) for each in groups)
        inputs = inputs if self.counts[0] else processors
        return CircuitDesign(inputs, processors, outputs)
