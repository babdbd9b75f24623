"""Appendix A: do signatures collapse where no prior holds them apart?

circuits with and without the regulariser  →  density and spread, epoch by epoch
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from nacs.experiments.images import images
from nacs.experiments.statistics import percent, spread
from nacs.experiments.workshop import Arm, Experiment, Workshop

__all__ = ["EXPERIMENT"]

FIGURES = ("density", "signature_spread", "val_accuracy")


def run(work: Workshop) -> dict[str, Any]:
    """Two bandwidths, with and without the regulariser, every seed."""
    setting = images(work).few()
    arms = [
        Arm(
            name=f"ε = {bandwidth:g}, weight {weight:g}",
            model="attentive",
            sizes=replace(setting.like, bandwidth=bandwidth),
        )
        for bandwidth in (0.25, 1.0)
        for weight in (0.1, 0.0)
    ]
    work.expect(len(arms) * len(setting.seeds))
    found: dict[str, list[list[dict[str, Any]]]] = {arm.name: [] for arm in arms}
    for seed in setting.seeds:
        for arm in arms:
            weight = float(arm.name.rpartition(" ")[2])
            training = replace(setting.training, graph_weight=weight)
            runs = work.runs("collapse", [arm], setting.dataset, training, seed)
            rows = runs[arm.name].history()
            found[arm.name].append([{k: row[k] for k in FIGURES} for row in rows])
    return {
        "facts": {
            "data": Path(setting.dataset.name).name,
            "prior": setting.like.prior,
            "images": len(setting.dataset.train),
            "batch": setting.training.batch,
        },
        "arms": {
            name: {
                key: [
                    spread([epoch[key] for epoch in epochs])
                    for epochs in zip(*seeds, strict=True)
                ]
                for key in FIGURES
            }
            for name, seeds in found.items()
        },
    }


def tell(found: dict[str, Any]) -> str:
    """Where density and spread end."""
    facts = found["facts"]
    lines = [
        f"{Path(facts['data']).stem}, {facts['images']:,} images in batches of "
        f"{facts['batch']}, {facts['prior']} prior. Density: mean link "
        "probability; spread: mean cosine distance of two signatures. At the first and "
        "the last epoch.",
        "",
        "| bandwidth, weight of the regulariser | density | | spread | | validation "
        "accuracy, % |",
        "|---|---|---|---|---|---|",
    ]
    for name, arm in found["arms"].items():
        cells = [
            f"{arm[key][at]['mean']:.3f} ± {arm[key][at]['deviation']:.3f}"
            for key in FIGURES[:2]
            for at in (0, -1)
        ]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {percent(arm['val_accuracy'][-1])} |"
        )
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Density and spread over the epochs."""
    from nacs.draw import draw_panels

    epochs = range(1, 1 + len(next(iter(found["arms"].values()))["density"]))
    panels = [
        {
            "x": "epoch",
            "y": what,
            "scale": 1,
            "lines": {n: (list(epochs), arm[key]) for n, arm in found["arms"].items()},
        }
        for key, what in (
            ("density", "density of links"),
            ("signature_spread", "cosine distance of signatures"),
        )
    ]
    draw_panels(panels, path)


EXPERIMENT = Experiment(
    title="Appendix A: collapse of the signatures",
    paper="without a prior the task pulls all signatures to one value, and the graph "
    "becomes complete (no figures given).",
    run=run,
    tell=tell,
    draw=draw,
)
