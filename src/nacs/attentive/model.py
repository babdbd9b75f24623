"""Neural Attentive Circuits: a generator writes a circuit, tokens run through it.

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022.
    https://arxiv.org/abs/2210.08031
"""

import math
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nacs.attentive.attention import SKMDPA
from nacs.attentive.circuit import CircuitDesign
from nacs.attentive.config import AttentiveConfig
from nacs.attentive.generator import ConditionalGenerator, UnconditionalGenerator
from nacs.attentive.layers import Propagator, ReadIn, ReadInAttention, ReadOut
from nacs.attentive.links import Links, importance, strongest_edges
from nacs.attentive.modulated import ModFFN
from nacs.attentive.priors import (
    Matching,
    fit_signatures,
    graph_loss,
    graphon,
    match,
    matching_of,
    repulsion_loss,
    sample_graph,
)
from nacs.attentive.sparse import listed
from nacs.hub import HubModel
from nacs.tokenizers import build_tokenizer

__all__ = ["AttentiveCircuit", "heard_edges"]


class AttentiveCircuit(HubModel):
    """A Neural Attentive Circuit: generator and executor.

    Args:
        config: Sizes and options; see `nacs.attentive.presets` for complete ones.

    Example:
        >>> from nacs.attentive import presets
        >>> model = AttentiveCircuit(presets.tiny())
        >>> model(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    prior: Tensor
    labels: Tensor

    frozen = False
    """Whether `freeze` has made it."""

    def __init__(self, config: AttentiveConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = build_tokenizer(config.tokenizer)
        self.context_tokenizer = None
        self.generator: nn.Module
        if config.generator == "conditional":
            if config.context is not None:
                self.context_tokenizer = build_tokenizer(config.context)
            told = config.context or config.tokenizer
            self.generator = ConditionalGenerator(config, told.width)
        else:
            self.generator = UnconditionalGenerator(config)
        self.read_in = _read_in(config)
        self.propagators = nn.ModuleList(
            Propagator(_messages(config), _ffn(config)) for _ in range(config.layers)
        )
        self.read_out = _read_out(config)
        if config.graph != "complete":
            prior = graphon(config.prior, config.modules)
            self.register_buffer("prior", prior.float(), persistent=False)
            self.register_buffer("labels", torch.arange(config.modules))
            self.register_load_state_dict_post_hook(_prior_again)

    def forward(
        self,
        inputs: Tensor,
        keep: Bool[Tensor, "batch tokens"] | None = None,
        context: Tensor | None = None,
        context_keep: Bool[Tensor, "batch context"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Logits, or regression targets.

        Args:
            inputs: What the tokenizer takes: images, points, bytes, series.
            keep: False where a ragged input is padding.
            context: The conditional generator's own input, if it has one.
            context_keep: False where the context is padding.
        """
        tokens, keep = self.tokenizer(inputs, keep)
        if self.context_tokenizer is None:
            context, context_keep = tokens, keep
        elif context is None:
            raise ValueError(
                "this circuit is written from a context: expected `context`, got "
                "None; pass model(inputs, context=...)."
            )
        else:
            if not torch.compiler.is_compiling() and len(context) != len(inputs):
                raise ValueError(
                    f"expected a context a sample, got {len(context)} contexts and "
                    f"{len(inputs)} samples."
                )
            context, context_keep = self.context_tokenizer(context, context_keep)
        return self.execute(self.design(context, context_keep), tokens, keep)

    def design(
        self,
        context: Float[Tensor, "batch context width"] | None = None,
        keep: Bool[Tensor, "batch context"] | None = None,
    ) -> CircuitDesign:
        """The circuit after surgery; with a batch axis if written from a context.

        Args:
            context: Context tokens, for a conditional circuit.
            keep: False where a context token is padding.
        """
        circuit: CircuitDesign = self.generator(context, keep)
        readers = self.config.wiring == "relay"
        if self.config.kept:
            strength = importance(self.links(circuit))
            index = strength.topk(self.config.kept, dim=-1).indices
            circuit = circuit.select(index.sort(-1).values, readers=readers)
        if self.training and self.config.module_dropout:
            circuit = circuit.select(self._survivors(circuit), readers=readers)
        if self.config.edges_removed:
            edges = strongest_edges(self.links(circuit), self.config.edges_removed)
            circuit = circuit._replace(edges=edges)
        return circuit

    def execute(
        self,
        circuit: CircuitDesign,
        tokens: Float[Tensor, "batch tokens token_width"],
        keep: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Run tokens through a circuit: read-in, propagators, read-out."""
        read = self.read_in(circuit.inputs, tokens, keep)
        relay = self.config.wiring == "relay"
        readers = circuit.inputs._replace(states=read)
        edges = heard_edges(circuit, self.config)
        along = listed(edges, read)
        processors = circuit.processors
        processors = processors if relay else processors._replace(states=read)
        for propagate in self.propagators:
            senders = readers.beside(processors) if relay else processors
            states = propagate(processors, senders, edges, along)
            processors = processors._replace(states=states)
        senders = readers.beside(processors) if relay else processors
        return self.read_out(circuit.outputs, senders)

    def links(
        self, circuit: CircuitDesign | None = None
    ) -> Float[Tensor, "*batch modules modules"]:
        """P (eq 2) between processors, under the first propagator's bandwidth.

        Args:
            circuit: Whose links; None for an unconditional model's own circuit.
        """
        if circuit is None and self.config.generator == "conditional":
            raise ValueError(
                "a conditional circuit has links for every sample: expected `circuit`, "
                "got None; pass links(model.design(tokens)) of its context's tokens."
            )
        circuit = self.generator(None, None) if circuit is None else circuit
        assert circuit is not None
        signatures = circuit.processors.signatures
        states = circuit.processors.states
        if signatures is None or self.config.graph == "complete":
            return states.new_ones((*states.shape[:-1], states.shape[-2]))
        first = self.propagators[0]
        assert isinstance(first, Propagator)
        assert first.attention.links is not None
        return first.attention.links.log_probabilities(signatures, signatures).exp()

    @cached_property
    def matching(self) -> Matching:
        """How the prior is matched; found when asked, for it looks at every pair."""
        return matching_of(self.prior)

    def regulariser(self, *, rematch: bool = True) -> Float[Tensor, ""]:
        """What the config says keeps the signatures apart; 0 if none are learned.

        The graph structure regulariser (eq 6, as a mean over pairs), whose last labels
        are the start of the next matching, or the hinge repulsion, as a mean too.

        Args:
            rematch: Whether modules are matched with labels anew, rather than left with
                those of the last matching.
        """
        config = self.config
        if config.graph != "learned" or config.generator == "conditional":
            return next(self.parameters()).new_zeros(())
        if config.regulariser == "repulsion":
            signatures = self.generator(None, None).processors.signatures
            pairs = max(1, config.modules * (config.modules - 1) // 2)
            return repulsion_loss(signatures) / pairs
        links = self.links()
        if rematch:
            found = match(
                links.detach(), self.prior, start=self.labels, how=self.matching
            )
            self.labels.copy_(found)
        return graph_loss(links, self.prior, self.labels, kind=config.regulariser)

    def _survivors(self, circuit: CircuitDesign) -> Tensor:
        """Processors that live through this batch of module dropout."""
        count = circuit.processors.states.shape[-2]
        share = torch.rand(()).item() * self.config.module_dropout
        alive = max(1, round(count * (1 - share)))
        order = torch.randperm(count)[:alive].sort().values
        return order.to(circuit.processors.states.device)

    @torch.no_grad()
    def prepare(self) -> None:
        """Once before training: fit the signatures to a graph drawn from the prior.

        Linked modules come so close that P ≥ ½ (or within the truncation), others do
        not. Does nothing unless the config says `start="prior"`.
        """
        config = self.config
        if config.start != "prior" or config.graph == "complete":
            return
        if not isinstance(self.generator, UnconditionalGenerator):
            return
        signatures = self.generator.processors.signatures
        if signatures is None:
            return
        seed = int(torch.randint(2**31, ()).item())
        adjacency = sample_graph(config.prior, config.modules, seed=seed)
        even = config.bandwidth * math.log(2)
        near = even if config.truncation is None else config.truncation
        with torch.enable_grad():
            start = signatures.detach().float()
            fitted = fit_signatures(adjacency, start, truncation=near)
        signatures.copy_(0.1 * F.normalize(fitted, dim=-1))


def _prior_again(model: AttentiveCircuit, _: object) -> None:
    """The prior is not saved, and a model may come from where there are no numbers."""
    prior = graphon(model.config.prior, model.config.modules)
    model.prior = prior.float().to(model.labels.device)
    model.__dict__.pop("matching", None)


def heard_edges(
    circuit: CircuitDesign, config: AttentiveConfig
) -> Bool[Tensor, "*batch modules senders"] | None:
    """True where a processor may hear a sender; None where nothing was removed.

    In the relay wiring the readers come first, and everybody hears them.
    """
    edges = circuit.edges
    if edges is None or config.wiring != "relay":
        return edges
    return F.pad(edges, (config.readers, 0), value=True)


def _links(config: AttentiveConfig, truncation: float | None) -> Links | None:
    if config.graph == "complete":
        return None
    return Links(
        config.bandwidth,
        temperature=config.temperature,
        learnable_bandwidth=config.learnable_bandwidth,
        truncation=truncation,
        evaluation=config.evaluation,
    )


def _ffn(config: AttentiveConfig) -> ModFFN:
    return ModFFN(
        config.width,
        config.hidden,
        code_features=config.code_features,
        gated=config.gated,
        layer_scale=config.layer_scale,
    )


def _messages(config: AttentiveConfig) -> SKMDPA:
    return SKMDPA(
        config.width,
        heads=config.heads,
        head_width=config.head_width,
        code_features=config.code_features,
        links=_links(config, config.truncation),
        layer_scale=config.layer_scale,
    )


def _read_in(config: AttentiveConfig) -> ReadIn:
    attention = ReadInAttention(
        config.width,
        config.tokenizer.width,
        heads=config.edge_heads,
        head_width=config.head_width,
        code_features=config.code_features,
        form=config.read_in,
        layer_scale=config.layer_scale,
    )
    return ReadIn(attention, _ffn(config))


def _read_out(config: AttentiveConfig) -> ReadOut:
    relay = config.wiring == "relay"
    attention = SKMDPA(
        config.width,
        sender_width=config.width,
        heads=config.edge_heads,
        head_width=config.head_width,
        code_features=config.code_features,
        links=_links(config, None if relay else config.truncation),
        residual=False,
        layer_scale=config.layer_scale,
    )
    return ReadOut(
        attention,
        _ffn(config),
        outputs=config.outputs,
        width=config.width,
        classes=config.classes,
    )
