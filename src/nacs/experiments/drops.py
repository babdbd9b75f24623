"""Figures 5 and 15: accuracy, throughput and work as modules are dropped.

images, digits as points: trained circuits
    →  fewer modules, by importance, at random, reversed  →  accuracy
    →  a short recovery training, frozen circuits timed in turns
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nacs.attentive import AttentiveCircuit, AttentiveConfig, drop_modules, freeze
from nacs.data.base import Split
from nacs.demo import forward_seconds
from nacs.evaluation import evaluate
from nacs.experiments.adapt import tuned
from nacs.experiments.images import PERCEIVER, circuits, images, perceivers
from nacs.experiments.point_studies import crowded, fitted
from nacs.experiments.statistics import compared, percent, points, spread
from nacs.experiments.workshop import Arm, Experiment, Run, Workshop
from nacs.flops import multiply_adds

__all__ = ["CLAIM", "EXPERIMENT", "SHARES"]

SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Of the modules, or of a Perceiver IO's latents, that go."""

ORDERS = ("importance", "random", "reversed")
CLAIM = 0.8
"""The share of figure 5's claim."""

RECOVERED = (0.8, 0.95)
"""Shares after which all that is left is trained for a while."""

DROPOUT = 0.9
"""Largest share of modules dropped in a batch, of the arms that are trained so."""

TRAINED_SO = ", module dropout"


@dataclass(frozen=True)
class _Setting:
    """Where modules are dropped."""

    name: str
    like: AttentiveConfig
    seeds: Sequence[int]
    runs: Callable[[list[Arm], int], dict[str, Run]]


def run(work: Workshop) -> dict[str, Any]:
    """Both kinds of data, every arm, every seed."""
    settings = [_images(work), _points(work)]
    work.expect(sum(len(_arms(work, s.like)) * len(s.seeds) for s in settings))
    return {"settings": {each.name: _asked(work, each) for each in settings}}


def _images(work: Workshop) -> _Setting:
    """The images of table 1, and their runs."""
    setting = images(work)
    name = Path(setting.dataset.name).stem
    return _Setting(name, setting.like, setting.seeds, setting.runs)


def _points(work: Workshop) -> _Setting:
    """The digits of table 2, with more modules."""
    study = crowded(work)

    def runs(arms: list[Arm], seed: int) -> dict[str, Run]:
        return work.runs("drops", arms, study.read(seed), study.training, seed)

    like = fitted(study.like, study.read(0))
    seeds = work.pick(smoke=(0,), here=(0, 1, 2), paper=(0, 1, 2))
    return _Setting(f"{study.name} as points", like, seeds, runs)


def _arms(work: Workshop, like: AttentiveConfig) -> list[Arm]:
    """Every prior and Perceiver IO; one of each trained with module dropout too."""
    priors = circuits(like)[: work.pick(smoke=1, here=None, paper=None)]
    rivals = perceivers(like)
    dropout = [
        replace(
            arm,
            name=arm.name + TRAINED_SO,
            sizes=replace(arm.sizes, module_dropout=DROPOUT),
        )
        for arm in (priors[0], rivals[0])
    ]
    return [*priors, *rivals, *dropout]


def _asked(work: Workshop, setting: _Setting) -> dict[str, Any]:
    """One kind of data: facts, and what became of every arm."""
    arms = _arms(work, setting.like)
    count = work.pick(smoke=100, here=2000, paper=10_000)
    steps = work.pick(smoke=2, here=200, paper=1000)
    batch = work.pick(smoke=4, here=64, paper=64)
    found: dict[str, Any] = {}
    for seed in setting.seeds:
        for name, one in setting.runs(arms, seed).items():
            told = found.setdefault(name, {"seeds": []})
            told["seeds"].append(_curves(one, count, steps))
            count = min(count, len(one.dataset.test))
            if seed == setting.seeds[0]:
                told |= one.measure("costs", _costs(one.dataset.test, batch))
    return {
        "facts": {
            "modules": setting.like.modules,
            "samples": count,
            "recovery steps": steps,
        },
        "arms": {name: _arm(each) for name, each in found.items()},
    }


def _curves(one: Run, count: int, steps: int) -> dict[str, Any]:
    """Accuracy of one run, share by share, in every order, and after recovery."""
    test, train = one.dataset.test, one.dataset.train
    test = test.take(range(min(count, len(test))))
    seed, batch = one.training.seed, min(one.training.batch, len(train))

    def act(model: nn.Module) -> dict[str, Any]:
        assert isinstance(model, AttentiveCircuit)
        complete = model.config.graph == "complete"
        orders = {
            order: _curve(model, test, order, seed)
            for order in (("random",) if complete else ORDERS)
        }
        recovered = {
            str(share): evaluate(
                tuned(
                    _smaller(model, share, next(iter(orders)), seed),
                    train,
                    steps=steps,
                    batch=batch,
                    rate=one.training.learning_rate / 4,
                    seed=seed,
                ),
                test,
            )["accuracy"]
            for share in RECOVERED
        }
        return {"orders": orders, "recovered": recovered}

    asked = {"shares": SHARES, "orders": ORDERS, "count": count, "steps": steps}
    return one.measure("drops", act, **asked)


def _curve(model: AttentiveCircuit, test: Split, order: str, seed: int) -> list[float]:
    """Accuracy share by share; nothing is trained again."""
    left = (_smaller(model, share, order, seed) for share in SHARES)
    return [evaluate(each, test)["accuracy"] for each in left]


def _smaller(
    model: AttentiveCircuit, share: float, order: Any, seed: int
) -> AttentiveCircuit:
    """The circuit without this share of its modules."""
    kept = max(1, round(model.config.modules * (1 - share)))
    return drop_modules(model, kept, order=order, seed=seed)


def _costs(test: Split, samples: int) -> Callable[[nn.Module], dict[str, Any]]:
    """Work a sample in a batch, and throughput over the whole circuit's, frozen."""
    batch = test.batch(range(samples))

    def act(model: nn.Module) -> dict[str, Any]:
        assert isinstance(model, AttentiveCircuit)
        models = [_smaller(model, share, "random", 0) for share in SHARES]
        work = [multiply_adds(m, batch.inputs) / samples for m in models]
        found: dict[str, Any] = {"multiply_adds": work}
        frozen = [freeze(each) for each in models]
        for how, those in (("live", models), ("frozen", frozen)):
            seconds = torch.tensor(forward_seconds(those, batch.inputs))
            found[how] = (seconds[0] / seconds).median(1).values.tolist()
        return found

    return act


def _arm(told: dict[str, Any]) -> dict[str, Any]:
    """Spreads over seeds of one arm; how much it loses at the share of the claim."""
    seeds = told["seeds"]
    first = next(iter(seeds[0]["orders"]))
    at = SHARES.index(CLAIM)
    return {
        "orders": {
            order: [
                spread(list(each))
                for each in zip(*(s["orders"][order] for s in seeds), strict=True)
            ]
            for order in seeds[0]["orders"]
        },
        "recovered": {
            share: spread([s["recovered"][share] for s in seeds])
            for share in seeds[0]["recovered"]
        },
        "lost": spread([s["orders"][first][0] - s["orders"][first][at] for s in seeds]),
        **{key: told[key] for key in ("multiply_adds", "live", "frozen")},
    }


def tell(found: dict[str, Any]) -> str:
    """What is left at some shares, and what the claim of figure 5 comes to."""
    head = (
        "Accuracy on test samples, the least important modules dropped first (latents "
        "of Perceiver IO at random); recovered: after a short training. Throughput: "
        "frozen, batch 64, over the whole model, frozen too. Module dropout: as many "
        "modules or latents as chance will, up to "
        f"{DROPOUT:.0%}, are left out of every training batch (ours, not the paper's)."
    )
    parts = [_told(name, each) for name, each in found["settings"].items()]
    return "\n\n".join([head, *parts])


def _told(name: str, setting: dict[str, Any]) -> str:
    """The table of one kind of data, the claim, and the orders."""
    facts, arms = setting["facts"], setting["arms"]
    shown = [SHARES.index(share) for share in (0.0, 0.5, 0.8, 0.9, 0.95)]
    at = SHARES.index(CLAIM)
    columns = [f"{SHARES[i]:.0%} dropped" for i in shown]
    columns += [f"points lost at {CLAIM:.0%}", "recovered", "throughput"]
    columns += ["multiply-adds"]
    lines = [
        f"**{name}**: {facts['modules']} modules, {facts['samples']:,} test samples, "
        f"{facts['recovery steps']} steps of recovery.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for arm, told in arms.items():
        curve = next(iter(told["orders"].values()))
        share = told["multiply_adds"][at] / told["multiply_adds"][0]
        cells = [*(percent(curve[i]) for i in shown), percent(told["lost"])]
        cells += [percent(told["recovered"][str(CLAIM)])]
        cells += [f"{told['frozen'][at]:.1f} ×", f"{share:.2f} ×"]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    lines += ["", _claim(arms), "", f"| {CLAIM:.0%} dropped | " + " | ".join(ORDERS)]
    lines[-1] += " |"
    lines.append("|---" * (len(ORDERS) + 1) + "|")
    for arm, told in arms.items():
        curves = [told["orders"].get(order) for order in ORDERS]
        cells = [percent(curve[at]) if curve else "" for curve in curves]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _claim(arms: dict[str, Any]) -> str:
    """Figure 5's claim: the best prior beside Perceiver IO, trained alike."""
    at = SHARES.index(CLAIM)
    priors = [n for n in arms if n.startswith("NAC") and not n.endswith(TRAINED_SO)]
    best = min(priors, key=lambda name: arms[name]["lost"]["mean"])
    pairs = {best: PERCEIVER, priors[0] + TRAINED_SO: PERCEIVER + TRAINED_SO}
    told: list[str] = []
    for ours, theirs in pairs.items():
        lost = arms[ours]["lost"]
        more = compared(arms[theirs]["lost"]["seeds"], lost["seeds"])
        told.append(
            f"{ours} loses {percent(lost)} points with {CLAIM:.0%} of its modules "
            f"dropped, at {arms[ours]['frozen'][at]:.1f} × the throughput; {theirs} "
            f"loses {points(more)} points more."
        )
    return f"Best prior: {told[0]} {told[1]}"


def draw(found: dict[str, Any], path: Path) -> None:
    """For each kind of data: accuracy by share and by work, orders, throughput."""
    from nacs.draw import draw_panels

    draw_panels([p for s in found["settings"].items() for p in _panels(*s)], path)


def _panels(name: str, setting: dict[str, Any]) -> list[dict[str, Any]]:
    """Four panels of one kind of data."""
    arms = setting["arms"]
    dropped = [100 * share for share in SHARES]
    curves = {n: next(iter(a["orders"].values())) for n, a in arms.items()}
    first = next(iter(arms))
    accuracy = f"{name}: test accuracy, %"
    return [
        {
            "x": "modules dropped, %",
            "y": accuracy,
            "lines": {n: (dropped, curve) for n, curve in curves.items()},
        },
        {
            "x": "M multiply-adds a sample",
            "y": accuracy,
            "log": True,
            "lines": {
                n: ([w / 1e6 for w in arms[n]["multiply_adds"]], curve)
                for n, curve in curves.items()
            },
        },
        {
            "x": f"modules dropped, %: {first}",
            "y": accuracy,
            "lines": {
                o: (dropped, curve) for o, curve in arms[first]["orders"].items()
            },
        },
        {
            "x": "modules dropped, %",
            "y": f"{name}: throughput, frozen, × all modules",
            "lines": {n: (dropped, a["frozen"]) for n, a in arms.items()},
        },
    ]


EXPERIMENT = Experiment(
    title="Figures 5 and 15: modules dropped, without retraining",
    paper="more than 80 % of the modules can go at little cost in accuracy, about 8 × "
    "as fast; at a fifth of the work the ring of cliques loses about 1 point, "
    "Perceiver IO 5.3 points.",
    run=run,
    tell=tell,
    draw=draw,
)
