"""Pictures for figure 6: accuracies, maps of sentences, circuits of sentences."""

from itertools import combinations
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from nacs.data.scenes import SKILLS
from nacs.draw import COLOURS

__all__ = ["draw"]

HOLD = 0.1
"""How strongly modules without a link are drawn together, where a sure link is 1."""


def draw(found: dict[str, Any], path: Path) -> None:
    """Accuracies into `path`; beside it NAME-embedding.png and NAME-graphs.png."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _accuracies(found, path)
    for count, (words, told) in enumerate(found["shown"]["maps"].items()):
        ending = "" if not count else f"-{count + 1}"
        _maps(told, words, path.with_name(f"{path.stem}-embedding{ending}.png"))
    _graphs(found["shown"]["circuits"], path.with_name(f"{path.stem}-graphs.png"))


def _accuracies(found: dict[str, Any], path: Path) -> None:
    """Bars by test and arm."""
    from matplotlib import pyplot as plt

    tests = found["facts"]["tests"]
    size = (3 + 1.6 * len(tests), 4.4)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    _bars(axes, found["rows"], tests)
    axes.set_ylabel("accuracy, %; dotted: the commoner answer")
    axes.set_ylim(bottom=40)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _bars(axes: Any, rows: dict[str, Any], tests: dict[str, Any]) -> None:
    width = 0.8 / len(rows)
    for place, ((name, row), colour) in enumerate(
        zip(rows.items(), COLOURS, strict=False)
    ):
        at = np.arange(len(tests)) + (place - (len(rows) - 1) / 2) * width
        mean, off = (
            [100 * row[test][what] for test in tests] for what in ("mean", "deviation")
        )
        axes.bar(at, mean, width, yerr=off, color=colour, label=name, capsize=2)
    for place, told in enumerate(tests.values()):
        often = 100 * told["majority"]
        axes.hlines(often, place - 0.45, place + 0.45, color="black", linestyle=":")
    axes.set_xticks(np.arange(len(tests)), [t.replace(", ", ",\n") for t in tests])


def _maps(told: dict[str, Any], words: str, path: Path) -> None:
    """Figure 6's map beside figure 16's: links on the left, text on the right."""
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
    titles = {"links": "link matrices", "words": "mean word tokens"}
    skills = np.array(told["skills"])
    for axes, (what, title) in zip(panels, titles.items(), strict=True):
        places = np.array(told[what])
        for skill, colour in zip(SKILLS, COLOURS, strict=False):
            mine = places[skills == skill]
            axes.scatter(*mine.T, s=9, color=colour, label=skill, alpha=0.7)
        axes.set_title(f"{title}, t-SNE")
        axes.set_xticks([])
        axes.set_yticks([])
    panels[0].legend(fontsize=8)
    figure.suptitle(f"Appendix H's templates over {words}")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _graphs(circuits: list[dict[str, Any]], path: Path) -> None:
    """Links with P > ½; modules keep their colours; likelier links draw nearer."""
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1, len(circuits), figsize=(3.6 * len(circuits), 3.8), layout="constrained"
    )
    for axes, told in zip(panels, circuits, strict=True):
        drawn = nx.Graph()
        drawn.add_nodes_from(range(told["modules"]))
        drawn.add_weighted_edges_from(told["edges"])
        held = nx.Graph()  # else parts without a link between them fly apart
        pairs = combinations(range(told["modules"]), 2)
        held.add_weighted_edges_from((i, j, HOLD) for i, j in pairs)
        held.add_weighted_edges_from(told["edges"])
        places = nx.spring_layout(held, seed=0)
        nx.draw_networkx_edges(drawn, places, ax=axes, alpha=0.25, width=0.6)
        colours = np.arange(told["modules"])
        nx.draw_networkx_nodes(
            drawn, places, ax=axes, node_size=25, node_color=colours, cmap="hsv"
        )
        axes.set_title(f"{told['sentence']}\nmean P {told['density']:.2f}", fontsize=8)
        axes.set_axis_off()
    figure.savefig(path, dpi=130)
    plt.close(figure)
