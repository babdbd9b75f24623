"""Figures 8 and 10 to 14: learned graphs, and accuracy as their edges go.

trained circuits  →  weakest edges eliminated  →  accuracy, critical point, graphs
prior × ε         →  density of links reached beside density asked for
"""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nacs.attentive import AttentiveCircuit, eliminate_edges
from nacs.evaluation import evaluate
from nacs.experiments.images import PRIORS, circuits, images
from nacs.experiments.statistics import percent, spread
from nacs.experiments.workshop import Arm, Experiment, Workshop
from nacs.graph import circuit_graph

__all__ = ["EXPERIMENT", "critical"]

SHARES = (0.0, 0.5, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 1.0)
BANDWIDTHS = (1.0, 0.5, 0.25, 0.125)
LISTED = 8
"""Edges a module that results list, the likeliest: more than any picture draws."""


def run(work: Workshop) -> dict[str, Any]:
    """Every prior and seed; then every prior and bandwidth, trained for less long."""
    setting = images(work)
    arms = circuits(setting.like)
    work.expect(len(arms) * len(setting.seeds))
    count = work.pick(smoke=100, here=2000, paper=10_000)
    test = setting.dataset.test
    test = test.take(range(min(count, len(test))))

    def act(model: nn.Module) -> list[float]:
        assert isinstance(model, AttentiveCircuit)
        return [evaluate(eliminate_edges(model, s), test)["accuracy"] for s in SHARES]

    curves: dict[str, list[list[float]]] = {arm.name: [] for arm in arms}
    graphs: dict[str, Any] = {}
    for seed in setting.seeds:
        for name, one in setting.runs(arms, seed).items():
            curves[name].append(one.measure("edges", act, shares=SHARES, count=count))
            if seed == setting.seeds[0]:
                graphs[name] = one.measure("graph", _graph)
    few = setting.few()
    return {
        "facts": {
            "data": Path(setting.dataset.name).name,
            "images": len(test),
            "modules": setting.like.modules,
            "densities": [len(few.dataset.train), few.training.batch, _epochs(work)],
        },
        "arms": {
            name: {
                "accuracy": [spread(list(e)) for e in zip(*each, strict=True)],
                "critical": [critical(curve) for curve in each],
                "links": _listed(graphs[name]["links"]),
            }
            for name, each in curves.items()
        },
        "densities": _densities(work),
    }


def critical(accuracy: list[float]) -> list[float]:
    """The two shares of `SHARES` between which most accuracy is lost."""
    falls = [before - after for before, after in pairwise(accuracy)]
    at = int(np.argmax(falls))
    return [SHARES[at], SHARES[at + 1]]


def _graph(model: nn.Module) -> dict[str, Any]:
    """The learned link probabilities, to three decimals."""
    assert isinstance(model, AttentiveCircuit)
    return {"links": np.round(circuit_graph(model).links, 3).tolist()}


def _listed(links: list[list[float]]) -> dict[str, Any]:
    """The likelier edges one by one: most pairs have next to no link."""
    rows, columns = np.triu_indices(len(links), 1)
    order = np.argsort(-np.array(links)[rows, columns], kind="stable")
    pairs = [(rows[at], columns[at]) for at in order[: LISTED * len(links)]]
    edges = [f"{i} {j} {links[i][j]}" for i, j in pairs]
    return {"modules": len(links), "edges": edges}


def _matrix(listed: dict[str, Any]) -> Any:
    """(modules, modules) the probabilities of listed edges, 0 for all others."""
    links = np.zeros((listed["modules"], listed["modules"]))
    for i, j, p in (edge.split() for edge in listed["edges"]):
        links[int(i), int(j)] = links[int(j), int(i)] = float(p)
    return links


def _densities(work: Workshop) -> list[dict[str, Any]]:
    """Mean link probabilities reached, prior by prior and bandwidth by bandwidth."""
    setting = images(work).few()
    training = replace(setting.training, epochs=_epochs(work))
    bandwidths = work.pick(smoke=(1.0, 0.25), here=BANDWIDTHS, paper=BANDWIDTHS)
    arms = [
        Arm(
            name=f"{prior}, {bandwidth}",
            model="attentive",
            sizes=replace(setting.like, prior=prior, bandwidth=bandwidth),
        )
        for prior in PRIORS
        for bandwidth in bandwidths
    ]
    rows: dict[str, dict[str, Any]] = {}
    seeds = setting.seeds[: work.pick(smoke=1, here=3, paper=3)]
    work.expect(len(arms) * len(seeds))
    for seed in seeds:
        runs = work.runs("densities", arms, setting.dataset, training, seed)
        for arm in arms:
            told = runs[arm.name].measure("density", _density)
            row = rows.setdefault(
                arm.name,
                {
                    "prior": arm.sizes.prior,
                    "bandwidth": arm.sizes.bandwidth,
                    "asked": told["asked"],
                    "reached": [],
                },
            )
            row["reached"].append(told["reached"])
    return [row | {"reached": spread(row["reached"])} for row in rows.values()]


def _epochs(work: Workshop) -> int:
    """Of the circuits whose densities are compared."""
    return work.pick(smoke=1, here=2, paper=20)


def _density(model: nn.Module) -> dict[str, Any]:
    assert isinstance(model, AttentiveCircuit)
    graph = circuit_graph(model)
    return {"asked": graph.prior_density, "reached": graph.density}


def tell(found: dict[str, Any]) -> str:
    """Accuracy by share of the edges, critical points, densities."""
    facts = found["facts"]
    shown = [SHARES.index(s) for s in (0.0, 0.8, 0.9, 0.95, 0.98, 1.0)]
    lines = [
        f"{Path(facts['data']).stem}, {facts['modules']} modules, accuracy on "
        f"{facts['images']:,} test images; the weakest edges go first. Critical: "
        "between which two shares most is lost, seed by seed.",
        "",
        "| | "
        + " | ".join(f"{SHARES[i]:.0%} eliminated" for i in shown)
        + " | lost at 90 % | critical, % |",
        "|---|" + "---|" * (len(shown) + 2),
    ]
    at = SHARES.index(0.9)
    for name, arm in found["arms"].items():
        whole, cut = (arm["accuracy"][i]["seeds"] for i in (0, at))
        lost = spread([a - b for a, b in zip(whole, cut, strict=True)])
        steps = ", ".join(f"{100 * a:.0f} to {100 * b:.0f}" for a, b in arm["critical"])
        cells = [*(percent(arm["accuracy"][i]) for i in shown), percent(lost), steps]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    images, batch, epochs = facts["densities"]
    lines += [
        "",
        "Density of links reached, beside the density the prior asks for, after "
        f"{epochs} epochs of {images:,} images in batches of {batch}:",
        "",
    ]
    widths = sorted({row["bandwidth"] for row in found["densities"]}, reverse=True)
    lines += ["| prior | asked | " + " | ".join(f"ε = {w:g}" for w in widths) + " |"]
    lines += ["|---|" + "---|" * (len(widths) + 1)]
    for prior in PRIORS:
        rows = {r["bandwidth"]: r for r in found["densities"] if r["prior"] == prior}
        reached = [
            f"{rows[w]['reached']['mean']:.3f} ± {rows[w]['reached']['deviation']:.3f}"
            for w in widths
        ]
        asked = rows[widths[0]]["asked"]
        lines.append(f"| {prior} | {asked:.3f} | " + " | ".join(reached) + " |")
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Accuracy against the share of the edges; beside it, the graphs of every prior."""
    from nacs.draw import draw_eliminations, draw_panels

    removed = [100 * share for share in SHARES]
    arms = found["arms"]
    lines = {name: (removed, arm["accuracy"]) for name, arm in arms.items()}
    panel = {"x": "edges eliminated, %", "y": "test accuracy, %", "lines": lines}
    draw_panels([panel, panel | {"left": 80}], path)
    draw_eliminations(
        {
            name: (_matrix(arm["links"]), (0.0, *arm["critical"][0]))
            for name, arm in arms.items()
        },
        path.with_name(f"{path.stem}-graphs.png"),
    )


EXPERIMENT = Experiment(
    title="Figures 8 and 10 to 14: learned graphs, and edges eliminated",
    paper="about 90 % of the edges can go for 1 to 2 points (planted partition 59.5 %, "
    "ring of cliques 59.9 %, scale-free 59.1 % of 60.8 %); beyond, planted partition "
    "and ring of cliques break down between 93 and 95 %, scale-free and Erdős–Rényi "
    "degrade gracefully.",
    run=run,
    tell=tell,
    draw=draw,
)
