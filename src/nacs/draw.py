"""Pictures of circuits and of their surgery."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import networkx as nx
import numpy as np

from nacs.graph import CircuitGraph

mpl.use("Agg")
from matplotlib import pyplot as plt

__all__ = ["draw_drops", "draw_graph"]

# Okabe and Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def draw_graph(graph: CircuitGraph, path: Path, *, title: str) -> None:
    """Draw the circuit: links by force on the left, P sorted by importance right.

    An edge is drawn where P > ½ (figure 8); if fewer than one edge a module is that
    likely, the likeliest are drawn, and the title says from which P on.

    Args:
        graph: From `circuit_graph`.
        path: A file ending in .png or .svg.
        title: What is shown.
    """
    count = len(graph.links)
    off = np.sort(graph.links[np.triu_indices(count, 1)])[::-1]
    wanted = off[min(len(off), 3 * count) - 1] if len(off) else 0.5
    threshold = 0.5 if (off > 0.5).sum() >= count else float(wanted)
    edges = graph.edges(threshold)
    drawn = nx.Graph()
    drawn.add_nodes_from(range(count))
    drawn.add_weighted_edges_from(edges)
    places = nx.spring_layout(drawn, seed=0, k=2 / np.sqrt(max(1, count)))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
    nx.draw_networkx_edges(
        drawn, places, ax=left, alpha=0.25, width=0.6, edge_color="#555555"
    )
    sizes = 25 + 250 * _scaled(graph.importance)
    nx.draw_networkx_nodes(
        drawn,
        places,
        ax=left,
        node_size=sizes,
        node_color=graph.importance,
        cmap="viridis",
    )
    left.set_title(f"{len(edges)} links with P > {threshold:.2f}; size: importance")
    left.set_axis_off()
    order = np.argsort(-graph.importance)
    image = right.imshow(graph.links[np.ix_(order, order)], vmin=0, vmax=1)
    asked = graph.prior_density
    beside = "" if asked is None else f" (the prior's: {asked:.3f})"
    right.set_title(f"link probabilities, density {graph.density:.3f}{beside}")
    right.set_xlabel("sender, by importance")
    right.set_ylabel("receiver, by importance")
    figure.colorbar(image, ax=right, label="P")
    figure.suptitle(title)
    _save(figure, path)


def draw_drops(curves: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Accuracy and relative throughput against the share of modules dropped.

    Args:
        curves: Per model, rows with `dropped` in [0, 1], `accuracy` in [0, 1] and
            `speedup` over the same model with all its modules.
        path: A file ending in .png or .svg.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for (name, rows), colour in zip(curves.items(), COLOURS, strict=False):
        dropped = [100 * row["dropped"] for row in rows]
        accuracy = [100 * row["accuracy"] for row in rows]
        speedup = [row["speedup"] for row in rows]
        left.plot(dropped, accuracy, "o-", color=colour, label=name)
        right.plot(dropped, speedup, "o-", color=colour, label=name)
    left.set_ylabel("test accuracy, %")
    right.set_ylabel("throughput, × all modules")
    for axes in (left, right):
        axes.set_xlabel("modules dropped, %")
        axes.grid(alpha=0.3)
        axes.legend()
    lowest = min(row["accuracy"] for rows in curves.values() for row in rows)
    left.set_ylim(10 * math.floor(max(0.0, 100 * lowest - 5) / 10), 101)
    _save(figure, path)


def _scaled(values: np.ndarray) -> np.ndarray:
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing glyph must not cost the picture
        figure.savefig(path, dpi=130)
    plt.close(figure)
