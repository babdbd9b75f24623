"""Figures 5 and 15: accuracy, throughput and work as modules are dropped.

images, digits as points: trained circuits
    →  fewer modules, by importance, at random, by effect  →  accuracy
    →  a short recovery training, frozen circuits timed in turns
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nacs.attentive import (
    AttentiveCircuit,
    AttentiveConfig,
    drop_modules,
    freeze,
    ranked_by_effect,
)
from nacs.data.base import Split
from nacs.demo import forward_seconds
from nacs.evaluation import evaluate, losses
from nacs.experiments.adapt import tuned
from nacs.experiments.images import PERCEIVER, circuits, images, perceivers
from nacs.experiments.point_studies import Study, crowded, fitted
from nacs.experiments.statistics import compared, percent, points, spread
from nacs.experiments.workshop import Arm, Experiment, Run, Workshop
from nacs.flops import multiply_adds

__all__ = ["CLAIM", "EXPERIMENT", "SHARES"]

SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Of the modules, or of a Perceiver IO's latents, that go."""

SHOWN = (0.0, 0.5, 0.8, 0.9, 0.95)
"""Those of them that the table has."""

ORDERS = ("importance", "random", "reversed", "effect")
"""Effects are measured (ours); a Perceiver IO's latents have no importance."""

CLAIM = 0.8
"""The share of figure 5's claim."""

RECOVERED = (0.8, 0.95)
"""Shares after which all that is left is trained for a while."""

SEEN = 256
"""Samples of training by which effects are measured."""

DROPOUT = 0.9
"""Largest share of modules dropped in a batch, of the arms that are trained so."""

TRAINED_SO = ", module dropout"

FEWER = ("NAC, erdos-renyi", PERCEIVER)
"""Arms with more modules: what lost least by effect, and its rival."""

MORE = {"drops-larger": 1.5, "drops-largest": 2}
"""How many times as many modules they have, by the folder of their runs."""


@dataclass(frozen=True)
class _Setting:
    """Where modules are dropped, and of what."""

    name: str
    arms: list[Arm]
    seeds: Sequence[int]
    runs: Callable[[int], dict[str, Run]]


def run(work: Workshop) -> dict[str, Any]:
    """Both kinds of data, every arm, every seed."""
    settings = [_images(work), _points(work)]
    more = list(MORE)[: work.pick(smoke=1, here=None, paper=None)]
    settings += [_more_points(work, folder) for folder in more]
    work.expect(sum(len(s.arms) * len(s.seeds) for s in settings))
    return {"settings": {each.name: _asked(work, each) for each in settings}}


def _images(work: Workshop) -> _Setting:
    """The images of table 1, and their runs."""
    setting = images(work)
    name, arms = Path(setting.dataset.name).stem, _arms(work, setting.like)
    seeds = setting.seeds[: work.pick(smoke=1, here=None, paper=None)]
    return _Setting(name, arms, seeds, lambda seed: setting.runs(arms, seed))


def _points(work: Workshop) -> _Setting:
    """The digits of table 2, with more modules."""
    study = crowded(work)
    arms = _arms(work, fitted(study.like, study.read(0)))
    return _digits(work, study, arms, "drops", f"{study.name} as points")


def _more_points(work: Workshop, folder: str) -> _Setting:
    """The same with more modules, and fewer arms."""
    study = crowded(work)
    like = replace(study.like, modules=round(study.like.modules * MORE[folder]))
    sizes = fitted(like, study.read(0))
    arms = [a for a in circuits(sizes) + perceivers(sizes) if a.name in FEWER]
    name = f"{study.name}, {like.modules} modules"
    return _digits(work, study, arms, folder, name)


def _digits(
    work: Workshop, study: Study, arms: list[Arm], folder: str, name: str
) -> _Setting:
    """The digits, read by seed, and their runs."""

    def runs(seed: int) -> dict[str, Run]:
        return work.runs(folder, arms, study.read(seed), study.training, seed)

    seeds = work.pick(smoke=(0,), here=(0, 1, 2, 3, 4), paper=(0, 1, 2))
    return _Setting(name, arms, seeds, runs)


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
    count = work.pick(smoke=100, here=2000, paper=10_000)
    steps = work.pick(smoke=2, here=200, paper=1000)
    batch = work.pick(smoke=4, here=64, paper=64)
    found: dict[str, Any] = {}
    samples = count
    for seed in setting.seeds:
        for name, one in setting.runs(seed).items():
            told = found.setdefault(name, {"seeds": []})
            told["seeds"].append(_curves(one, count, steps))
            samples = min(count, len(one.dataset.test))
            if seed == setting.seeds[0]:
                told |= one.measure("costs", _costs(one.dataset.test, batch))
    return {
        "facts": {
            "modules": setting.arms[0].sizes.modules,
            "samples": samples,
            "recovery steps": steps,
        },
        "arms": {name: _arm(each) for name, each in found.items()},
    }


def _curves(one: Run, count: int, steps: int) -> dict[str, Any]:
    """Accuracy of one run, share by share, in every order, and after recovery."""
    test, train = one.dataset.test, one.dataset.train
    test = test.take(range(min(count, len(test))))
    seed, batch = one.training.seed, min(one.training.batch, len(train))
    seen = train.batch(range(min(SEEN, len(train))))

    def act(model: nn.Module) -> dict[str, Any]:
        assert isinstance(model, AttentiveCircuit)
        complete = model.config.graph == "complete"
        known: dict[str, Any] = {
            order: order for order in (("random",) if complete else ORDERS[:3])
        }
        known["effect"] = ranked_by_effect(model, lambda each: losses(each, seen))
        orders = {name: _curve(model, test, how, seed) for name, how in known.items()}
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


def _curve(model: AttentiveCircuit, test: Split, order: Any, seed: int) -> list[float]:
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
    """Spreads over seeds of one arm."""
    seeds = told["seeds"]
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
        **{key: told[key] for key in ("multiply_adds", "live", "frozen")},
    }


def _usual(arm: dict[str, Any]) -> list[dict[str, Any]]:
    """The curve by importance, at random where there is none."""
    return next(iter(arm["orders"].values()))


def _lost(curve: list[dict[str, Any]]) -> dict[str, Any]:
    """How much goes at the share of the claim."""
    ends = curve[0]["seeds"], curve[SHARES.index(CLAIM)]["seeds"]
    return spread([whole - left for whole, left in zip(*ends, strict=True)])


def tell(found: dict[str, Any]) -> str:
    """What is left at some shares, and what the claim of figure 5 comes to."""
    head = (
        "Accuracy on test samples, the least important modules dropped first (latents "
        "of Perceiver IO at random); recovered: after a short training. Throughput: "
        "frozen, batch 64, over the whole model, frozen too. Ours, not the paper's: by "
        f"effect, measured on {SEEN} samples of training, and module dropout, where as "
        f"many modules or latents as chance will, up to {DROPOUT:.0%}, are left out of "
        "every training batch. The best prior is the one that loses least here; larger "
        "circuits are of the prior that lost least by effect before."
    )
    parts = [_told(name, each) for name, each in found["settings"].items()]
    return "\n\n".join([head, *parts])


def _told(name: str, setting: dict[str, Any]) -> str:
    """The table of one kind of data, the claim, and the orders."""
    facts, arms = setting["facts"], setting["arms"]
    shown = [i for i, share in enumerate(SHARES) if share in SHOWN]
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
        curve = _usual(told)
        share = told["multiply_adds"][at] / told["multiply_adds"][0]
        cells = [*(percent(curve[i]) for i in shown), percent(_lost(curve))]
        cells += [percent(told["recovered"][str(CLAIM)])]
        cells += [f"{told['frozen'][at]:.1f} ×", f"{share:.2f} ×"]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    lines += ["", f"| {CLAIM:.0%} dropped | " + " | ".join(ORDERS) + " |"]
    lines.append("|---" * (len(ORDERS) + 1) + "|")
    for arm, told in arms.items():
        curves = [told["orders"].get(order) for order in ORDERS]
        cells = [percent(curve[at]) if curve else "" for curve in curves]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_claim(arms)])


def _claim(arms: dict[str, Any]) -> list[str]:
    """Figure 5's claim of the best prior beside Perceiver IO, and trained alike."""
    at = SHARES.index(CLAIM)
    priors = [n for n in arms if n.startswith("NAC") and not n.endswith(TRAINED_SO)]
    lines = [
        f"| {CLAIM:.0%} dropped | circuit | it loses | throughput | Perceiver IO loses "
        "more |",
        "|---" * 5 + "|",
    ]
    ways = {
        "as in the paper": _usual,
        "both by effect": lambda a: a["orders"]["effect"],
    }
    for way, curve in ways.items():
        best = min(priors, key=lambda name: _lost(curve(arms[name]))["mean"])
        pairs = {best: PERCEIVER, priors[0] + TRAINED_SO: PERCEIVER + TRAINED_SO}
        for ours, theirs in pairs.items():
            if ours not in arms:
                continue
            lost, other = (_lost(curve(arms[name])) for name in (ours, theirs))
            more = compared(other["seeds"], lost["seeds"])
            cells = [way, ours, percent(lost), f"{arms[ours]['frozen'][at]:.1f} ×"]
            lines.append("| " + " | ".join([*cells, points(more)]) + " |")
    return lines


def draw(found: dict[str, Any], path: Path) -> None:
    """For each kind of data: accuracy by share and by work, orders, throughput."""
    from nacs.draw import draw_panels

    draw_panels([p for s in found["settings"].items() for p in _panels(*s)], path)


def _panels(name: str, setting: dict[str, Any]) -> list[dict[str, Any]]:
    """Four panels of one kind of data."""
    arms = setting["arms"]
    dropped = [100 * share for share in SHARES]
    curves = {name: _usual(arm) for name, arm in arms.items()}
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
            "y": f"{name}: frozen, × as fast as whole",
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
