"""A circuit as a graph: nodes, edges, weights, read off a model."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from nacs.attentive.circuit import CircuitDesign
from nacs.attentive.links import cosine_distance, importance
from nacs.attentive.model import AttentiveCircuit
from nacs.data.base import Batch

__all__ = ["CircuitGraph", "circuit_graph", "graph_figures"]


@dataclass(frozen=True)
class CircuitGraph:
    """Processors of one circuit and the links between them."""

    links: Float[ndarray, "modules modules"]
    """P_ij: how likely module i hears module j."""

    importance: Float[ndarray, " modules"]
    """q_i = Σ_j P_ij (eq 10)."""

    prior_density: float | None = None
    """What `density` would be if the graph were just as its prior; None without one."""

    @property
    def density(self) -> float:
        """Mean link probability off the diagonal; 0 for a single module."""
        count = len(self.links)
        off = self.links.sum() - np.trace(self.links)
        return float(off / max(1, count * (count - 1)))

    def edges(self, threshold: float = 0.5) -> list[tuple[int, int, float]]:
        """Pairs i < j whose P exceeds `threshold`, with P (figure 8 has ½)."""
        rows, columns = np.nonzero(np.triu(self.links, 1) > threshold)
        return [
            (int(i), int(j), float(self.links[i, j]))
            for i, j in zip(rows, columns, strict=True)
        ]


def circuit_graph(
    model: AttentiveCircuit, design: CircuitDesign | None = None, sample: int = 0
) -> CircuitGraph:
    """The graph of a model's circuit, or of one sample's.

    Args:
        model: An attentive circuit.
        design: A conditional circuit's design; None for an unconditional model.
        sample: Which sample of the design's batch.
    """
    with torch.no_grad():
        links = model.links(design)
    links = links[sample] if links.ndim == 3 else links
    regularised = model.config.graph != "complete" and design is None
    return CircuitGraph(
        links.double().cpu().numpy(),
        importance(links).double().cpu().numpy(),
        _mean_off_diagonal(model.prior) if regularised else None,
    )


@torch.no_grad()
def graph_figures(model: nn.Module, batch: Batch) -> dict[str, float]:
    """What training reports of a learned graph; nothing for a model without one.

    Args:
        model: Any model.
        batch: Samples whose circuits are averaged, if each has one of its own.

    Returns:
        `density`, the mean link probability, and `signature_spread`, the mean cosine
        distance, both off the diagonal: 1 and 0 mean that the graph has collapsed.
        `graph_loss`, the regulariser, if there is one.
    """
    if not isinstance(model, AttentiveCircuit) or model.config.graph == "complete":
        return {}
    was_training = model.training
    model.eval()
    told = model.context_tokenizer
    if told is not None:
        tokens, keep = told(batch.context, batch.context_keep)
    else:
        tokens, keep = model.tokenizer(batch.inputs, batch.keep)
    design = model.design(tokens, keep)
    model.train(was_training)
    signatures = design.processors.signatures
    assert signatures is not None
    figures = {
        "density": _mean_off_diagonal(model.links(design)),
        "signature_spread": _mean_off_diagonal(cosine_distance(signatures, signatures)),
    }
    if model.config.generator == "unconditional":
        figures["graph_loss"] = model.regulariser().item()
    return figures


def _mean_off_diagonal(pairs: Tensor) -> float:
    count = pairs.shape[-1]
    off = pairs.sum((-2, -1)) - pairs.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (off / max(1, count * (count - 1))).double().mean().item()
