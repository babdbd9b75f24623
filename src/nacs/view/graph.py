"""A circuit's graph as the page draws it: modules with two places each, and edges."""

from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from numpy import ndarray

from nacs.view.numbers import rounded

__all__ = [
    "MOST_EDGES",
    "ReadOuts",
    "along_the_codes",
    "communities",
    "graph_part",
    "places_by_signature",
]

MOST_EDGES = 60_000
"""The page gets no more edges than this, the likeliest."""

EACH = 5
"""Edges of a module that communities and places are found from, its likeliest."""

MANY = 400
"""More modules than this are moved fewer times; the rest is their signatures' order."""


class ReadOuts(NamedTuple):
    """Those who read the answer out of the modules."""

    links: ndarray
    """P (read-outs, modules)."""

    signatures: ndarray
    """(read-outs, signature)."""


def graph_part(
    links: ndarray,
    heard: ndarray,
    importance: ndarray,
    signatures: ndarray,
    *,
    codes: ndarray | None = None,
    readouts: ReadOuts | None = None,
) -> dict[str, Any]:
    """Modules and edges, then read-outs and whom each hears most.

    Places are those of the modules, then of the read-outs.

    Args:
        links: P (modules, modules).
        heard: True where surgery has left an edge (modules, modules).
        importance: q (modules).
        signatures: (modules, signature).
        codes: (modules, code).
        readouts: None where they do not listen along links.
    """
    first, second, p = _likeliest(links, heard)
    drawn = _strongest(links, heard)
    group = communities(drawn)
    listening: list[tuple[int, int, float]] = []
    if readouts is not None:
        listening = _listening(readouts.links)
        signatures = np.concatenate([signatures, readouts.signatures])
        drawn.add_nodes_from(range(len(links), len(signatures)))
        drawn.add_weighted_edges_from(listening)
    by_signature = places_by_signature(signatures)
    return {
        "modules": len(links),
        "importance": rounded(importance),
        "community": group,
        "code": None if codes is None else rounded(along_the_codes(codes)),
        "by_signature": rounded(by_signature),
        "by_force": rounded(_places_by_force(drawn, by_signature)),
        "edges": {"i": first.tolist(), "j": second.tolist(), "p": rounded(p, 5)},
        "pairs": int(np.triu(heard, 1).sum()),
        "readouts": 0 if readouts is None else len(readouts.links),
        "heard": [[i, j, round(p, 5)] for i, j, p in listening],
    }


def _listening(links: ndarray) -> list[tuple[int, int, float]]:
    """Of every read-out its likeliest modules, as edges after the modules' own."""
    modules = links.shape[1]
    nearest = np.argsort(-links, axis=1, kind="stable")[:, :EACH]
    return [
        (module, modules + out, float(links[out, module]))
        for out, near in enumerate(nearest.tolist())
        for module in near
    ]


def _likeliest(links: ndarray, heard: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Ends and P of the edges i < j, the likeliest first."""
    first, second = np.nonzero(np.triu(heard, 1))
    p = links[first, second]
    order = np.argsort(-p, kind="stable")[:MOST_EDGES]
    return first[order], second[order], p[order]


def _strongest(links: ndarray, heard: ndarray) -> Any:
    """All modules, each with its likeliest edges: no block is left without any."""
    count = len(links)
    others = np.where(heard & ~np.eye(count, dtype=bool), links, 0.0)
    nearest = np.argsort(-others, axis=1, kind="stable")[:, :EACH]
    graph = nx.Graph()
    graph.add_nodes_from(range(count))
    for module, near in enumerate(nearest.tolist()):
        ends = ((module, other, float(others[module, other])) for other in near)
        graph.add_weighted_edges_from(end for end in ends if end[2] > 0)
    return graph


def communities(graph: Any) -> list[int]:
    """The community of every module, 0 the largest (Louvain, seeded)."""
    found = nx.community.louvain_communities(graph, weight="weight", seed=0)
    number = [0] * graph.number_of_nodes()
    ranked = sorted(found, key=lambda group: (-len(group), min(group)))
    for index, group in enumerate(ranked):
        for module in group:
            number[module] = index
    return number


def places_by_signature(signatures: ndarray) -> ndarray:
    """The two directions in which signatures differ most (nodes, 2)."""
    left, size = _directions(signatures)
    places = np.zeros((len(signatures), 2))
    found = (left * size)[:, :2]
    places[:, : found.shape[1]] = found
    return places


def along_the_codes(codes: ndarray) -> ndarray:
    """Every module's place in [0, 1] along the line on which codes differ most.

    Modules whose codes are alike lie near each other on it.
    """
    left, size = _directions(codes)
    place = (left * size)[:, 0]
    span = np.ptp(place)
    return (place - place.min()) / span if span > 0 else np.zeros(len(codes))


def _directions(rows: ndarray) -> tuple[ndarray, ndarray]:
    """Principal directions of vectors, of which the length does not count."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.maximum(length, 1e-12)
    left, size, _ = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
    return left, size


def _places_by_force(graph: Any, start: ndarray) -> ndarray:
    """From the places by signature: linked modules attract, all repel each other."""
    count = len(start)
    begun = start / max(1e-12, float(np.abs(start).max(initial=0)))
    places = nx.spring_layout(
        graph,
        pos=dict(enumerate(begun)),
        k=2 / np.sqrt(max(1, count)),
        iterations=50 if count <= MANY else 15,
        method="force",
        seed=0,
    )
    return np.array([places[module] for module in range(count)]).reshape(count, 2)
