"""Figures 5 and 15: accuracy, throughput and work as modules are dropped.

trained circuits  →  fewer modules, by importance, at random, reversed  →  accuracy
                  →  a short recovery training, frozen circuits timed in turns
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nacs.attentive import AttentiveCircuit, drop_modules, freeze
from nacs.data.base import Split
from nacs.demo import forward_seconds
from nacs.evaluation import evaluate
from nacs.experiments.adapt import tuned
from nacs.experiments.images import PERCEIVER, Images, images
from nacs.experiments.statistics import compared, percent, points, spread
from nacs.experiments.workshop import Experiment, Run, Workshop
from nacs.flops import multiply_adds

__all__ = ["CLAIM", "EXPERIMENT", "SHARES", "curve"]

SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Of the modules, or of a Perceiver IO's latents, that go."""

ORDERS = ("importance", "random", "reversed")
CLAIM = 0.8
"""The share of figure 5's claim."""

RECOVERED = (0.8, 0.95)
"""Shares after which all that is left is trained for a while."""


def run(work: Workshop) -> dict[str, Any]:
    """Every prior and Perceiver IO, every seed."""
    setting = images(work)
    arms = [*setting.circuits(), *setting.rivals()]
    work.expect(len(arms) * len(setting.seeds))
    count = work.pick(smoke=100, here=2000, paper=10_000)
    steps = work.pick(smoke=2, here=200, paper=1000)
    found: dict[str, Any] = {}
    for seed in setting.seeds:
        for name, one in setting.runs(arms, seed).items():
            told = found.setdefault(name, {"seeds": []})
            told["seeds"].append(_curves(setting, one, count, steps))
            if seed == setting.seeds[0]:
                told |= one.measure("costs", _costs(setting))
    return {
        "facts": {
            "data": Path(setting.dataset.name).name,
            "modules": setting.like.modules,
            "images": min(count, len(setting.dataset.test)),
            "recovery steps": steps,
        },
        "arms": {name: _arm(each) for name, each in found.items()},
    }


def _curves(setting: Images, one: Run, count: int, steps: int) -> dict[str, Any]:
    """Accuracy of one run, share by share, in every order, and after recovery."""
    test, train = setting.dataset.test, setting.dataset.train
    test = test.take(range(min(count, len(test))))
    seed, batch = one.training.seed, min(one.training.batch, len(train))

    def act(model: nn.Module) -> dict[str, Any]:
        assert isinstance(model, AttentiveCircuit)
        complete = model.config.graph == "complete"
        orders = {
            order: curve(model, SHARES, test, order=order, seed=seed)
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

    return one.measure("drops", act, shares=SHARES, count=count, steps=steps)


def curve(
    model: AttentiveCircuit, shares: Sequence[float], test: Split, **how: Any
) -> list[float]:
    """Accuracy without these shares of the modules, or of a Perceiver IO's latents.

    Args:
        model: As it was trained; nothing is trained again.
        shares: In [0, 1]; one module stays in any case.
        test: What is classified.
        how: `order` and `seed` of `drop_modules`.
    """
    left = (_smaller(model, share, **how) for share in shares)
    return [evaluate(each, test)["accuracy"] for each in left]


def _smaller(
    model: AttentiveCircuit, share: float, order: Any, seed: int
) -> AttentiveCircuit:
    """The circuit without this share of its modules."""
    kept = max(1, round(model.config.modules * (1 - share)))
    return drop_modules(model, kept, order=order, seed=seed)


def _costs(setting: Images) -> Any:
    """Work a sample in a batch, and throughput over the whole circuit's, frozen."""
    test = setting.dataset.test
    batch = test.batch(range(setting.work.pick(smoke=4, here=64, paper=64)))

    def act(model: nn.Module) -> dict[str, Any]:
        assert isinstance(model, AttentiveCircuit)
        models = [_smaller(model, share, "random", 0) for share in SHARES]
        work = [multiply_adds(m, batch.inputs) / len(batch.inputs) for m in models]
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
    facts, arms = found["facts"], found["arms"]
    shown = [SHARES.index(share) for share in (0.0, 0.5, 0.8, 0.9, 0.95)]
    at = SHARES.index(CLAIM)
    lines = [
        f"{Path(facts['data']).stem}, {facts['modules']} modules, accuracy on "
        f"{facts['images']:,} test images, the least important modules dropped first "
        "(latents of Perceiver IO at random); recovered: after "
        f"{facts['recovery steps']} steps of training. Throughput: frozen, batch 64, "
        "over the whole model, frozen too.",
        "",
        "| | "
        + " | ".join(f"{SHARES[i]:.0%} dropped" for i in shown)
        + " | points lost at 80 % | recovered, 80 % | throughput at 80 % | "
        "multiply-adds at 80 % |",
        "|---|" + "---|" * (len(shown) + 4),
    ]
    for name, arm in arms.items():
        curve = next(iter(arm["orders"].values()))
        share = arm["multiply_adds"][at] / arm["multiply_adds"][0]
        cells = [*(percent(curve[i]) for i in shown), percent(arm["lost"])]
        cells += [percent(arm["recovered"]["0.8"]), f"{arm['frozen'][at]:.1f} ×"]
        cells += [f"{share:.2f} ×"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    best = min(
        (n for n in arms if n.startswith("NAC")), key=lambda n: arms[n]["lost"]["mean"]
    )
    off = compared(arms[PERCEIVER]["lost"]["seeds"], arms[best]["lost"]["seeds"])
    lines += [
        "",
        f"Best prior: {best} loses {percent(arms[best]['lost'])} points with 80 % of "
        f"its modules dropped, at {arms[best]['frozen'][at]:.1f} × the throughput; "
        f"{PERCEIVER} loses {points(off)} points more.",
        "",
        "| 80 % dropped | " + " | ".join(ORDERS) + " |",
        "|---|" + "---|" * len(ORDERS),
    ]
    for name, arm in arms.items():
        cells = [
            percent(arm["orders"][o][at]) if o in arm["orders"] else "" for o in ORDERS
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Accuracy by share and by work, the orders of the first prior, throughput."""
    from nacs.draw import draw_panels

    arms = found["arms"]
    dropped = [100 * share for share in SHARES]
    curves = {n: next(iter(a["orders"].values())) for n, a in arms.items()}
    first = next(iter(arms))
    draw_panels(
        [
            {
                "x": "modules dropped, %",
                "y": "test accuracy, %",
                "lines": {n: (dropped, curve) for n, curve in curves.items()},
            },
            {
                "x": "M multiply-adds a sample",
                "y": "test accuracy, %",
                "log": True,
                "lines": {
                    n: ([w / 1e6 for w in arms[n]["multiply_adds"]], curve)
                    for n, curve in curves.items()
                },
            },
            {
                "x": f"modules dropped, %: {first}",
                "y": "test accuracy, %",
                "lines": {
                    o: (dropped, curve) for o, curve in arms[first]["orders"].items()
                },
            },
            {
                "x": "modules dropped, %",
                "y": "throughput, frozen, × all modules",
                "lines": {n: (dropped, a["frozen"]) for n, a in arms.items()},
            },
        ],
        path,
    )


EXPERIMENT = Experiment(
    title="Figures 5 and 15: modules dropped, without retraining",
    paper="more than 80 % of the modules can go at little cost in accuracy, about 8 × "
    "as fast; at a fifth of the work the ring of cliques loses about 1 point, "
    "Perceiver IO 5.3 points.",
    run=run,
    tell=tell,
    draw=draw,
)
