"""The matrices of a circuit: links, prior, codes, and how many links modules have."""

from typing import Any

import numpy as np
import torch
from numpy import ndarray

from nacs.attentive import AttentiveCircuit
from nacs.attentive.circuit import CircuitDesign
from nacs.view.numbers import as_bytes, rounded

__all__ = ["LARGEST", "matrix_part"]

LARGEST = 2048
"""Matrices of more modules than this are not sent to the page."""

BINS = 24


def matrix_part(
    model: AttentiveCircuit, links: ndarray, design: CircuitDesign
) -> dict[str, Any] | None:
    """Link matrix, prior and code similarity, or None if they are too large.

    Every matrix is in the order of the modules; `matched` is the order in which the
    links look most like the prior, or None where there is no prior to compare with.

    Args:
        model: Whose prior.
        links: P (modules, modules).
        design: Of one sample, without a batch axis.
    """
    if len(links) > LARGEST:
        return None
    prior, matched = _prior(model, len(links))
    return {
        "links": as_bytes(links),
        "prior": None if prior is None else as_bytes(prior),
        "matched": matched,
        "codes": _alike(design),
        "degrees": _degrees(links, prior),
    }


def _prior(
    model: AttentiveCircuit, count: int
) -> tuple[ndarray | None, list[int] | None]:
    """P⁰ in the order of the modules, and the modules in the order of P⁰."""
    config = model.config
    if config.graph == "complete" or config.generator == "conditional":
        return None, None
    matched = model.labels.cpu()
    if len(matched) != count:
        return None, None
    place = matched.argsort().numpy()
    return model.prior.cpu().numpy()[np.ix_(place, place)], matched.tolist()


def _alike(design: CircuitDesign) -> str | None:
    """Cosine of the modules' codes, from [-1, 1] to [0, 1]."""
    codes = design.processors.codes
    if codes is None:
        return None
    unit = torch.nn.functional.normalize(codes.float(), dim=-1)
    return as_bytes(((1 + unit @ unit.T) / 2).cpu().numpy())


def _degrees(links: ndarray, prior: ndarray | None) -> dict[str, Any]:
    """Histograms of Σ_{j≠i} P_ij, over the same bins."""
    found = {"learned": links} if prior is None else {"learned": links, "prior": prior}
    degrees = {name: each.sum(1) - np.diag(each) for name, each in found.items()}
    most = max(1e-6, *(float(each.max()) for each in degrees.values()))
    edges = np.linspace(0, most, BINS + 1)
    counts = {k: np.histogram(v, edges)[0].tolist() for k, v in degrees.items()}
    return {"edges": rounded(edges), "counts": counts}
