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
from nacs.neuronal.attention import NeuronalAttention
from nacs.neuronal.inspect import GROUPS, Activity, synapses

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

__all__ = [
    "draw_circuit",
    "draw_drops",
    "draw_eliminations",
    "draw_graph",
    "draw_panels",
]

# Okabe and Ito's palette: told apart by colour-blind readers too.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#000000", "#999999"),
)


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


def draw_panels(panels: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Curves in panels, two to a row, with one legend.

    Args:
        panels: Each with `x` and `y`, the names of the axes; `lines`, by name the
            places and the values there, numbers or spreads (`mean` and `deviation`,
            which is drawn as a band); `scale`, what spreads are multiplied by, 100 if
            not given; `log` for a logarithmic x, and `left`, where x begins.
        path: A file ending in .png or .svg.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(11, 4.2 * rows), layout="constrained", squeeze=False
    )
    for panel, each in zip(panels, axes.flat, strict=False):
        _panel(panel, each)
    for each in list(axes.flat)[len(panels) :]:
        each.set_axis_off()
    _save(figure, path)


def _panel(panel: Mapping[str, Any], axes: Any) -> None:
    left = panel.get("left", -math.inf)
    for index, (name, (places, values)) in enumerate(panel["lines"].items()):
        spreads = [v if isinstance(v, Mapping) else {"mean": v} for v in values]
        scale = panel.get("scale", 100) if isinstance(values[0], Mapping) else 1
        shown = [at for at, place in enumerate(places) if place >= left]
        x = np.array([places[at] for at in shown])
        mean = scale * np.array([spreads[at]["mean"] for at in shown])
        off = scale * np.array([spreads[at].get("deviation", 0.0) for at in shown])
        colour = COLOURS[index % len(COLOURS)]
        style = "--" if name.startswith("Perceiver") else "-"
        axes.plot(x, mean, f"o{style}", color=colour, label=name, markersize=3)
        axes.fill_between(x, mean - off, mean + off, color=colour, alpha=0.12)
    if panel.get("log"):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(panel["x"])
    axes.set_ylabel(panel["y"])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


def draw_eliminations(graphs: Mapping[str, tuple[Any, Any]], path: Path) -> None:
    """Graphs as their weakest edges go, a row a circuit (figures 8 and 11 to 14).

    Args:
        graphs: By name the link probabilities (modules, modules), and the shares of
            the edges that are eliminated, a column each. Of what is left, edges of P
            above ½ are drawn, or the likeliest three a module.
        path: A file ending in .png or .svg.
    """
    columns = max(len(shares) for _, shares in graphs.values())
    figure, axes = plt.subplots(
        len(graphs),
        columns,
        figsize=(3.6 * columns, 3.4 * len(graphs)),
        layout="constrained",
        squeeze=False,
    )
    for row, (name, (links, shares)) in zip(axes, graphs.items(), strict=True):
        count = len(links)
        apart = 3 / np.sqrt(count)  # or an edge hides between its modules
        places = nx.spring_layout(_likeliest(links, 3 * count), seed=0, k=apart)
        for column, share in zip(row, shares, strict=False):
            pairs = count * (count - 1) // 2
            kept = round((1 - share) * pairs)
            sure = int((np.triu(links, 1) > 0.5).sum())
            drawn = _likeliest(links, min(kept, max(sure, 3 * count)))
            nx.draw_networkx_edges(
                drawn, places, ax=column, alpha=0.5, width=0.5, edge_color="#555555"
            )
            nx.draw_networkx_nodes(
                drawn,
                places,
                ax=column,
                node_size=10,
                node_color=links.sum(1),
                cmap="viridis",
            )
            column.set_title(f"{name}: {share:.0%} eliminated", fontsize=8)
            column.set_axis_off()
    _save(figure, path)


def _likeliest(links: Any, count: int) -> Any:
    """All modules with the `count` likeliest links."""
    rows, columns = np.triu_indices(len(links), 1)
    order = np.argsort(-links[rows, columns], kind="stable")[:count]
    graph = nx.Graph()
    graph.add_nodes_from(range(len(links)))
    graph.add_edges_from((int(rows[i]), int(columns[i])) for i in order)
    return graph


def draw_circuit(
    layer: NeuronalAttention, activity: Activity, path: Path, *, title: str
) -> None:
    """Draw the neurons of a layer in their groups, and the synapses that were used.

    A line is as wide as the traffic it carried beside others between these groups, blue
    where it excites and orange where it inhibits; a neuron is as large as it was busy.
    The right side shows how long the logits take.

    Args:
        layer: A layer that was observed.
        activity: From `nacs.neuronal.inspect.observe`.
        path: A file ending in .png or .svg.
        title: What is shown.
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 5.6), layout="constrained", width_ratios=(3, 1)
    )
    places: dict[str, tuple[int, float]] = {}
    for column, group in enumerate(GROUPS):
        busy = getattr(activity, group).abs().flatten(0, -2).mean(0).cpu().numpy()
        heights = np.linspace(1, 0, len(busy) + 2)[1:-1]
        places |= {f"{group} {i}": (column, y) for i, y in enumerate(heights)}
        left.scatter(
            np.full(len(busy), column),
            heights,
            s=10 + 120 * busy / max(busy.max(), 1e-9),
            color="#333333",
            zorder=3,
        )
        left.text(column, 1.02, f"{group}\n{len(busy)}", ha="center")
    most: dict[tuple[str, str], float] = {}
    for wire in synapses(layer, activity):  # the busiest of its groups comes first
        source, target = (end.split()[0] for end in (wire.source, wire.target))
        share = wire.flow / max(most.setdefault((source, target), wire.flow), 1e-12)
        left.annotate(
            "",
            places[wire.target],
            places[wire.source],
            arrowprops={
                "arrowstyle": "-",
                "color": COLOURS[0] if wire.weight > 0 else COLOURS[1],
                "linewidth": 2 * share,
                "alpha": 0.1 + 0.7 * share,
                "connectionstyle": f"arc3,rad={0.4 if source == target else 0}",
            },
        )
    left.set_axis_off()
    left.set_title("blue excites, orange inhibits; width: traffic, by layer", pad=30)
    taken = activity.time_constant.flatten().cpu().numpy()
    right.hist(taken[taken < np.quantile(taken, 0.99)], bins=40, color=COLOURS[2])
    right.set_xlabel("time constant 1/ω, horizons")
    right.set_ylabel("pairs")
    figure.suptitle(title)
    _save(figure, path)


def _scaled(values: np.ndarray) -> np.ndarray:
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing glyph must not cost the picture
        figure.savefig(path, dpi=100)
    plt.close(figure)
