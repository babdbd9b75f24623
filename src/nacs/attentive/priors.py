"""Graph priors: what the learned graph should look like, and the losses that say so.

A prior is a canonical link probability matrix P⁰ (a sampled graphon, eq 7). The
regulariser compares P with P⁰ under the relabelling σ that suits best (eqs 6, 9).

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, appendix A.
    https://arxiv.org/abs/2210.08031
"""

import math
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nacs.attentive.links import cosine_distance

__all__ = [
    "PRIORS",
    "Matching",
    "erdos_renyi",
    "fit_signatures",
    "graph_loss",
    "graphon",
    "match",
    "matching_of",
    "planted_partition",
    "repulsion_loss",
    "ring_of_cliques",
    "sample_graph",
    "scale_free",
    "signature_distribution_loss",
    "small_world",
]

Matching = Literal["none", "sorted", "assigned"]


def erdos_renyi(
    modules: int, *, probability: float = 0.1
) -> Float[Tensor, "modules modules"]:
    """Every pair alike (Erdős and Rényi 1959)."""
    return torch.full((modules, modules), probability, dtype=torch.float64)


def planted_partition(
    modules: int, *, blocks: int = 10, inside: float = 0.9, outside: float = 0.05
) -> Float[Tensor, "modules modules"]:
    """Blocks that talk among themselves; of equal size, or nearly so.

    Fewer modules than blocks make one block of each module.
    """
    block = torch.arange(modules) * min(blocks, modules) // max(1, modules)
    alike = block[:, None] == block[None, :]
    return torch.where(alike, inside, outside).double()


def ring_of_cliques(
    modules: int,
    *,
    blocks: int = 10,
    inside: float = 0.9,
    outside: float = 0.05,
    closed: bool = True,
) -> Float[Tensor, "modules modules"]:
    """A planted partition whose hubs tie every block to the next.

    The first module of a block is linked for certain to its own and the next block.
    `closed=False` leaves the last block untied to the first, as the released code does.
    """
    target = planted_partition(modules, blocks=blocks, inside=inside, outside=outside)
    blocks = min(blocks, modules)
    starts = [-(-b * modules // blocks) for b in range(blocks + 1)]
    for block in range(blocks):
        hub, nxt = starts[block], block + 2
        target[hub : starts[min(nxt, blocks)], hub] = 1
        target[hub, hub : starts[min(nxt, blocks)]] = 1
    if closed and blocks > 2:
        hub = starts[blocks - 1]
        target[: starts[1], hub] = 1
        target[hub, : starts[1]] = 1
    return target


def scale_free(
    modules: int, *, exponent: float = 0.5
) -> Float[Tensor, "modules modules"]:
    """A few hubs and a heavy tail: U^β/16 · (i+1)^−β (j+1)^−β, at most 1 (eq 8).

    i and j count modules from 0, as in the released code. Read with the text's
    r in [0, 1] the formula would give 0.56 to 1.12 for the paper's 320 modules: no
    probability and no tail.
    """
    label = torch.arange(1, modules + 1, dtype=torch.float64) ** -exponent
    return (modules**exponent / 16 * torch.outer(label, label)).clamp(max=1)


def small_world(
    modules: int, *, neighbours: int = 16, rewiring: float = 0.1
) -> Float[Tensor, "modules modules"]:
    """Expected links of a Watts–Strogatz graph: near neighbours, some rewired."""
    neighbours = min(neighbours, max(0, modules - 1)) // 2 * 2
    place = torch.arange(modules)
    apart = (place[:, None] - place[None, :]).abs()
    apart = torch.minimum(apart, modules - apart)
    near = apart <= neighbours // 2
    others = max(1, modules - 1 - neighbours)
    far = rewiring * neighbours / others
    return torch.where(near, 1 - rewiring, min(1.0, far)).double()


PRIORS: dict[str, Callable[..., Tensor]] = {
    "erdos-renyi": erdos_renyi,
    "planted-partition": planted_partition,
    "ring-of-cliques": ring_of_cliques,
    "scale-free": scale_free,
    "small-world": small_world,
}


def graphon(
    name: str, modules: int, **options: Any
) -> Float[Tensor, "modules modules"]:
    """The prior called `name` on `modules` modules; symmetric, in [0, 1].

    Raises:
        ValueError: If there is no such prior; names the nearest and lists all.
    """
    if name not in PRIORS:
        near = get_close_matches(name, PRIORS, 1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise ValueError(
            f"There is no prior '{name}'{hint} Priors: {', '.join(PRIORS)}."
        )
    return PRIORS[name](modules, **options)


@torch.no_grad()
def match(
    links: Float[Tensor, "modules modules"],
    prior: Float[Tensor, "modules modules"],
    *,
    rounds: int = 10,
    start: Int[Tensor, " modules"] | None = None,
    how: Matching | None = None,
) -> Int[Tensor, " modules"]:
    """Which module plays each label of the prior (eq 9).

    A constant prior has nothing to match. A rank-one prior (scale-free) is matched by
    sorting both by degree. Otherwise rows are assigned at least cost, and again with
    the columns in the order just found, while that helps: eq 9 alone permutes rows
    only and stays far from the best labelling. A planted prior may also start from
    blocks gathered greedily.

    Args:
        links: P of the circuit.
        prior: P⁰.
        rounds: Most assignments; 1 is eq 9 as it stands.
        start: Where to look first, such as the labelling of the step before.
        how: From `matching_of`; None looks at the prior, which takes longer than
            sorting does.

    Returns:
        assignment[t] is the module that plays label t; `start` for links that are not
        finite, where rows are assigned.
    """
    how = how or matching_of(prior)
    identity = torch.arange(len(prior), device=links.device)
    if how == "none":
        return identity
    if rounds > 1 and how == "sorted":
        ranked = links.sum(-1).argsort(descending=True, stable=True)
        labels = prior.sum(-1).argsort(descending=True, stable=True)
        return torch.empty_like(ranked).scatter(0, labels, ranked)
    target, given = (each.double().cpu().numpy() for each in (prior, links))
    first = identity if start is None else start
    if not np.isfinite(given).all():
        return first
    columns = found = first.cpu().numpy()
    best = _relabelled_loss(given, target, found)
    blocks = _by_blocks(given, target) if rounds > 1 else None
    if blocks is not None and (loss := _relabelled_loss(given, target, blocks)) < best:
        best, columns, found = loss, blocks, blocks
    for turn in range(rounds):
        columns = _assign(given, target, columns)
        loss = _relabelled_loss(given, target, columns)
        if turn and loss >= best:
            break
        if loss < best or rounds == 1:
            best, found = loss, columns
    return torch.from_numpy(np.ascontiguousarray(found)).to(links.device)


def _by_blocks(given: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Modules to the blocks of a planted prior, tightest first; None for another prior.

    A block's first module is the one whose nearest free neighbours are nearest.
    """
    inside = target > (target.max() + target.min()) / 2
    np.fill_diagonal(inside, val=True)
    rows, block = np.unique(inside, axis=0, return_inverse=True)
    if (rows.sum(0) != 1).any():
        return None
    found, free = np.empty(len(target), dtype=np.int64), np.arange(len(target))
    for label in np.argsort(-rows.sum(1), kind="stable"):
        places = np.flatnonzero(block == label)
        near = given[np.ix_(free, free)]
        np.fill_diagonal(near, val=1.0)
        closest = np.partition(near, -len(places), axis=1)[:, -len(places) :]
        members = np.argsort(-near[closest.sum(1).argmax()], kind="stable")
        found[places] = free[members[: len(places)]]
        free = np.delete(free, members[: len(places)])
    return found


def _assign(given: np.ndarray, target: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Rows t to modules m at least Σ_v (T_tv − P_m,columns[v])²."""
    from scipy.optimize import linear_sum_assignment  # here: it takes 0.3 s to import

    placed = given[:, columns]
    squares = (target**2).sum(1)[:, None] + (placed**2).sum(1)[None, :]
    cost = (squares - 2 * target @ placed.T) / len(target)
    return linear_sum_assignment(cost)[1]


def _relabelled_loss(given: np.ndarray, target: np.ndarray, order: np.ndarray) -> float:
    return float(((given[np.ix_(order, order)] - target) ** 2).mean())


def matching_of(prior: Float[Tensor, "modules modules"]) -> Matching:
    """How a prior is matched: not at all (constant), by sorting, or by assignment."""
    off = prior[~torch.eye(len(prior), dtype=torch.bool, device=prior.device)]
    if not len(off) or off.max() == off.min():
        return "none"
    return "sorted" if _is_rank_one(prior) else "assigned"


def _is_rank_one(prior: Tensor) -> bool:
    """Whether P⁰_ij = min(1, w_i w_j): rows are then ordered the same everywhere."""
    if prior.max() == 0:
        return False
    weight = prior[:, -1] / prior[-1, -1].sqrt()
    return torch.allclose(torch.outer(weight, weight).clamp(max=1), prior, atol=1e-6)


def graph_loss(
    links: Float[Tensor, "modules modules"],
    prior: Float[Tensor, "modules modules"],
    assignment: Int[Tensor, " modules"],
    *,
    kind: Literal["mse", "kl"] = "mse",
    diagonal: bool = False,
    clip: float = 0.0,
) -> Float[Tensor, ""]:
    """Distance of the relabelled links from the prior: eq 6, as a mean.

    Args:
        links: P of the circuit.
        prior: P⁰.
        assignment: From `match`; carries no gradient.
        kind: Squared error, or KL(Bernoulli(P⁰) ‖ Bernoulli(P)) in nats.
        diagonal: Whether P_ii counts, as in the released code; the paper leaves it out.
        clip: Errors of an entry below this count as this and get no gradient.
    """
    placed = links[assignment][:, assignment]
    prior = prior.to(placed.dtype)
    if kind == "mse":
        error = (placed - prior) ** 2
    else:
        placed = placed.to(torch.promote_types(placed.dtype, torch.float32))
        placed = placed.clamp(1e-6, 1 - 1e-6)  # half precision has no 1 − 1e-6
        hit = torch.xlogy(prior, prior / placed)
        miss = torch.xlogy(1 - prior, (1 - prior) / (1 - placed))
        error = hit + miss
    error = error.clamp(min=clip)
    if diagonal:
        return error.mean()
    count = len(prior)
    if count < 2:
        return error.sum() * 0
    own = torch.eye(count, dtype=torch.bool, device=error.device)
    return error.masked_fill(own, 0).sum() / (count * (count - 1))


def _pair_distances(signatures: Tensor) -> Float[Tensor, " pairs"]:
    row, column = torch.tril_indices(len(signatures), len(signatures), -1)
    return cosine_distance(signatures, signatures)[row, column]


def repulsion_loss(
    signatures: Float[Tensor, "modules signature"], *, hinge: float = 0.4
) -> Float[Tensor, ""]:
    """−Σ d over the pairs closer than `hinge`: pushes signatures apart up to there."""
    distance = _pair_distances(signatures)
    return -distance[distance < hinge].sum()


def signature_distribution_loss(
    signatures: Float[Tensor, "modules signature"],
    start: Float[Tensor, "modules signature"],
) -> Float[Tensor, ""]:
    """Negative log density of the distances under a normal fitted at the start, nats.

    Args:
        signatures: Now.
        start: At construction; mean and deviation of its distances are the target.
    """
    then = _pair_distances(start).detach()
    mean = then.mean()
    deviation = (then.var(correction=0) + 1e-6).sqrt()
    scaled = (_pair_distances(signatures) - mean) / deviation
    return (scaled**2 / 2 + deviation.log() + math.log(2 * math.pi) / 2).mean()


def sample_graph(
    name: str, modules: int, *, seed: int = 0
) -> Float[Tensor, "modules modules"]:
    """Adjacency of a graph drawn from a prior, by networkx where it has the model."""
    import networkx as nx  # here: it takes 0.2 s to import

    if name == "scale-free" and modules > 2:
        drawn = nx.barabasi_albert_graph(modules, 2, seed=seed)
        return torch.from_numpy(nx.to_numpy_array(drawn))
    target = graphon(name, modules)
    random = torch.Generator().manual_seed(seed)
    uniform = torch.rand(modules, modules, generator=random, dtype=torch.float64)
    upper = (uniform < target).double().triu(1)
    return upper + upper.T


def fit_signatures(
    adjacency: Float[Tensor, "modules modules"],
    start: Float[Tensor, "modules signature"],
    *,
    truncation: float,
    steps: int = 1000,
    learning_rate: float = 1e-3,
) -> Float[Tensor, "modules signature"]:
    """Signatures close where a graph has an edge and apart where it has none.

    Adam on the mean of max(d, t) over edges and max(−d, −t) elsewhere.

    Args:
        adjacency: 1 where there is an edge.
        start: Signatures to start from; they stay as they are.
        truncation: t: linked pairs need come no closer, others go no further.
        steps: Adam steps.
        learning_rate: Of Adam.
    """
    signatures = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([signatures], lr=learning_rate)
    linked = adjacency.to(start.device) == 1
    for _ in range(steps):
        distance = cosine_distance(signatures, signatures)
        pulled = torch.where(linked, distance, -distance)
        floor = torch.where(linked, truncation, -truncation)
        loss = torch.maximum(pulled, floor.to(pulled.dtype)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return signatures.detach()
