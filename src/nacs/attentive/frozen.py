"""A circuit that no longer learns: whatever its inputs do not change is computed once.

    circuit = design(context), after surgery, linked modules side by side
    scales  = 1 + α LayerNorm(W_c c)     of every layer, for every module
    log K   = −d(s_i, s_j) / ε           of every layer
    asked   = m ⊙ W_kᵀ W_q θ⁰            folded queries of the read-in

The executor is the same; it finds these in place of what would compute them.

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, section 2.1, appendix F.
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from nacs.attentive.circuit import CircuitDesign, Modules
from nacs.attentive.layers import Propagator
from nacs.attentive.model import AttentiveCircuit, heard_edges
from nacs.attentive.priors import graphon
from nacs.packed import pack

__all__ = ["FixedGenerator", "freeze", "linked_together"]


@torch.no_grad()
def freeze(
    model: AttentiveCircuit,
    context: Tensor | None = None,
    context_keep: Bool[Tensor, "1 context"] | None = None,
    *,
    sparse: bool = True,
    packed: bool = True,
) -> AttentiveCircuit:
    """The same circuit for inference: faster, most of all for small batches.

    Gives the numbers of the model in evaluation, to rounding. A circuit that is written
    from a context is fixed to the one of the context given, and then reads any number
    of inputs. The model itself stays as it is.

    Args:
        model: A trained circuit, after `drop_modules` or `eliminate_edges` or not.
        context: One context (1, …), as the model's `forward` takes it, for a
            conditional circuit; the inputs themselves where it has no context of its
            own.
        context_keep: False where the context is padding.
        sparse: Whether few edges are kept as a list, where that is faster here; False
            for a circuit that is to run elsewhere.
        packed: Whether large weights are also kept in the order that this processor's
            kernels read fastest (`nacs.packed`), for their memory once more.

    Raises:
        ValueError: If a conditional circuit has no context, or more than one, or if
            links are sampled in evaluation, so that nothing about them is fixed.

    Example:
        >>> from nacs.attentive import presets
        >>> frozen = freeze(AttentiveCircuit(presets.tiny()))
        >>> frozen(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    if model.config.evaluation == "sample" and model.config.graph != "complete":
        raise ValueError(
            'links that are sampled cannot be frozen, got evaluation="sample"; use '
            '"expected" or "threshold".'
        )
    frozen = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    circuit = _written(frozen, context, context_keep)
    left, relay = len(circuit.processors.states), model.config.wiring == "relay"
    order = torch.arange(left, device=circuit.processors.states.device)
    if circuit.edges is not None:
        order = linked_together(circuit.edges)
        circuit = _reordered(circuit, order, readers=relay)
    senders = circuit.processors
    if relay:
        senders = circuit.inputs.beside(senders)
    edges = heard_edges(circuit, model.config)
    frozen.read_in.fix(circuit.inputs)
    for layer in frozen.propagators:
        assert isinstance(layer, Propagator)
        layer.fix(circuit.processors, senders, edges, sparse=sparse)
    frozen.read_out.fix(circuit.outputs, senders)
    frozen.generator = FixedGenerator(circuit)
    frozen.context_tokenizer = None
    frozen.config = replace(
        model.config,
        generator="unconditional",
        modules=left,
        kept=0,
        edges_removed=0.0,
        module_dropout=0.0,
    )
    if model.config.graph != "complete":
        whole = left == model.config.modules
        frozen.prior = graphon(model.config.prior, left).to(frozen.prior)
        frozen.labels = order.argsort()[frozen.labels] if whole else order
    frozen.frozen = True
    if packed:
        pack(frozen, left)
    return frozen


def linked_together(
    edges: Bool[Tensor, "modules modules"],
) -> Int[Tensor, " modules"]:
    """An order of the modules in which linked ones lie near each other.

    Reverse Cuthill–McKee: rows of neighbours are then read from the cache. Edges go in
    both directions.
    """
    from scipy.sparse import csr_array  # here: they take a tenth of torch's time
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    graph = csr_array(edges.cpu().numpy())
    order = reverse_cuthill_mckee(graph, symmetric_mode=True)
    return torch.from_numpy(order.astype(np.int64)).to(edges.device)


class FixedGenerator(nn.Module):
    """The states of a circuit whose codes and signatures have done their work.

    Signatures of the processors are kept for those who ask for the graph.
    """

    inputs: Tensor
    processors: Tensor
    outputs: Tensor
    signatures: Tensor | None

    def __init__(self, circuit: CircuitDesign) -> None:
        super().__init__()
        for name in ("inputs", "processors", "outputs"):
            self.register_buffer(name, getattr(circuit, name).states)
        self.register_buffer("signatures", circuit.processors.signatures)

    def forward(
        self,
        context: Tensor | None = None,  # noqa: ARG002
        keep: Tensor | None = None,  # noqa: ARG002
    ) -> CircuitDesign:
        """The circuit, whatever the context."""
        return CircuitDesign(
            Modules(None, None, self.inputs),
            Modules(self.signatures, None, self.processors),
            Modules(None, None, self.outputs),
        )


def _written(
    model: AttentiveCircuit, context: Tensor | None, keep: Tensor | None
) -> CircuitDesign:
    """The one circuit of a model, without a batch axis."""
    if model.config.generator == "unconditional":
        return model.design()
    if context is None or len(context) != 1:
        got = "none" if context is None else str(len(context))
        raise ValueError(
            "a circuit that is written from a context is frozen for one context, got "
            f"{got}; pass freeze(model, context) with a batch of 1."
        )
    tokenizer = model.context_tokenizer or model.tokenizer
    circuit = model.design(*tokenizer(context, keep))

    edges = None if circuit.edges is None else circuit.edges.squeeze(0)
    inputs, processors, outputs = map(_alone, circuit[:3])
    return CircuitDesign(inputs, processors, outputs, edges)


def _alone(group: Modules) -> Modules:
    """A group of modules without its batch axis of 1."""
    signatures, codes, states = group
    return Modules(
        None if signatures is None else signatures.squeeze(0),
        None if codes is None else codes.squeeze(0),
        states.squeeze(0),
    )


def _reordered(
    circuit: CircuitDesign, order: Tensor, *, readers: bool
) -> CircuitDesign:
    """The same circuit with its processors in another order."""
    assert circuit.edges is not None
    edges = circuit.edges[order][:, order]
    return circuit.select(order, readers=readers)._replace(edges=edges)
