"""A circuit as a graph: nodes, edges, weights, read off a model."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from nacs.attentive.circuit import CircuitDesign
from nacs.attentive.links import importance
from nacs.attentive.model import AttentiveCircuit

__all__ = ["CircuitGraph", "circuit_graph"]


@dataclass(frozen=True)
class CircuitGraph:
    """Processors of one circuit and the links between them."""

    links: Float[ndarray, "modules modules"]
    """P_ij: how likely module i hears module j."""

    importance: Float[ndarray, " modules"]
    """q_i = Σ_j P_ij (eq 10)."""

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
    return CircuitGraph(
        links.double().cpu().numpy(), importance(links).double().cpu().numpy()
    )
