"""Figures 4 and 9: trained circuits adapted to classes they never saw.

classes  →  seen (pre-training), held out (choices), unseen  →  ways × shots episodes
trained models  →  linear probe, fine-tuning, the same episodes  →  accuracy, lift
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nacs import data
from nacs.attentive import AttentiveConfig, presets
from nacs.data.base import Array, Dataset, Split
from nacs.evaluation import evaluate
from nacs.experiments.adapt import features
from nacs.experiments.episodes import Bench, divided, pooled, restricted
from nacs.experiments.images import (
    HERE,
    HERE_TRAINING,
    PAPER_TRAINING,
    circuits,
    perceivers,
)
from nacs.experiments.statistics import compared, percent, points, spread
from nacs.experiments.workshop import Arm, Experiment, Workshop
from nacs.models import count_parameters, lookup
from nacs.recipe import TrainConfig
from nacs.tasks import fitted

__all__ = ["EXPERIMENT", "Plan", "arms_of", "plan_of"]

HOW = {"probe": "linear probe", "tuned": "fine-tuned"}
"""Ways to adapt, with what tables call them."""

LIKE = 2000
"""Samples of pre-training that scale the features."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is done at one scale."""

    like: AttentiveConfig
    """Sizes of the circuit."""

    training: TrainConfig
    """Of pre-training."""

    groups: tuple[int, int, int]
    """Classes seen in pre-training, held out for choices, and unseen."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of pre-training and of the episodes."""

    ways: int = 8
    """Classes of an episode while shots vary."""

    shots: int = 8
    """Samples a class while ways vary."""

    many_ways: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    many_shots: tuple[int, ...] = (1, 2, 4, 8, 16)

    queries: int = 15
    """Samples a class that are asked about."""

    episodes: int = 100
    """A point and seed, of the linear probe."""

    tunings: tuple[int, int] = (100, 100)
    """Episodes a point and seed of fine-tuning: of up to four shots, and of all other
    points."""

    choosing: int = 20
    """Episodes of held-out classes that decide on a setting of the linear probe; half
    as many decide on one of fine-tuning."""

    decays: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """Weight decays of the linear probe to choose from."""

    rates: tuple[float, ...] = (1e-3, 3e-3)
    """Learning rates of fine-tuning to choose from."""

    steps: int = 20
    """Of fine-tuning."""

    batch: int = 32
    """Samples a step of fine-tuning, at most."""

    @property
    def points(self) -> list[tuple[int, int]]:
        """Ways and shots of every point of both figures, each once."""
        both = [(self.ways, shots) for shots in self.many_shots]
        both += [(ways, self.shots) for ways in self.many_ways]
        return list(dict.fromkeys(both))

    def count(self, how: str, shots: int) -> int:
        """Episodes of a point and seed."""
        return self.episodes if how == "probe" else self.tunings[shots > 4]


def plan_of(work: Workshop) -> Plan:
    """The plan of a workshop's scale."""
    if work.scale == "smoke":
        return Plan(
            like=presets.tiny(),
            training=TrainConfig(epochs=1),
            groups=(6, 2, 2),
            seeds=(0, 1),
            ways=2,
            shots=2,
            many_ways=(2,),
            many_shots=(1, 2),
            episodes=2,
            tunings=(2, 2),
            choosing=2,
            decays=(0.1, 1.0),
            rates=(1e-3,),
            steps=2,
        )
    if work.scale == "here":
        return Plan(
            like=replace(HERE, modules=48, layers=2),
            training=HERE_TRAINING,
            groups=(120, 16, 64),
            tunings=(34, 34),
            steps=10,
        )
    return Plan(
        like=presets.tiny_imagenet(),
        training=PAPER_TRAINING,
        groups=(120, 16, 64),
        steps=100,
    )


def _loaded(work: Workshop) -> Dataset:
    """Digits (smoke), Tiny-ImageNet at half its side (here), or as it is (paper)."""
    if work.scale == "smoke":
        return data.load("digits")
    if work.scale == "here":
        path = work.file(
            "tiny_imagenet200_sub.npz", "give the folder that has it with --data"
        )
        return data.load(path, size=32)
    return data.load("tiny-imagenet")


def arms_of(plan: Plan, seen: Dataset) -> list[Arm]:
    """A circuit with the scale-free prior; Perceiver IO as wide, and one as large."""
    like = fitted(plan.like, seen)
    return [*circuits(like)[:1], *perceivers(like)]


def run(work: Workshop) -> dict[str, Any]:
    """Every arm and seed, pre-trained, then adapted in every episode."""
    plan, dataset = plan_of(work), _loaded(work)
    groups = divided(len(dataset.classes), plan.groups)
    seen, held, unseen = (restricted(dataset, group) for group in groups)
    arms = arms_of(plan, seen)
    work.expect(len(arms) * len(plan.seeds))
    asked = {
        name: value
        for name, value in asdict(plan).items()
        if name not in ("like", "training", "seeds")
    }
    asked["classes"] = [group.tolist() for group in groups]
    told: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in arms}
    for seed in plan.seeds:
        runs = work.runs("few-shot", arms, seen, plan.training, seed)
        for name, one in runs.items():
            act = _adapted(plan, seen, pooled(held), pooled(unseen), seed)
            told[name].append(one.measure("adapted", act, **asked))
    return {
        "facts": {
            "data": Path(dataset.name).name,
            "classes": plan.groups,
            "images": len(seen.train),
            "ways": plan.ways,
            "shots": plan.shots,
            "queries": plan.queries,
            "steps": plan.steps,
        },
        "arms": {arm.name: _arm(arm, told[arm.name]) for arm in arms},
        "points": _points(plan, told),
    }


def _adapted(
    plan: Plan, seen: Dataset, held: Split, unseen: Split, seed: int
) -> Callable[[nn.Module], dict[str, Any]]:
    """What is measured of a model: its settings, and the accuracy of every episode."""

    def act(model: nn.Module) -> dict[str, Any]:
        some = seen.train.take(range(min(LIKE, len(seen.train))))
        like = features(model, some)
        tried, bench = (
            Bench(
                model=model,
                split=split,
                like=like,
                seed=seed,
                queries=plan.queries,
                steps=plan.steps,
                batch=plan.batch,
            )
            for split in (held, unseen)
        )
        settings = _chosen(plan, tried)
        found: dict[str, Any] = {
            "pretrained": evaluate(model, seen.test)["accuracy"],
            "settings": settings,
        }
        for how in HOW:
            found[how] = [
                bench.accuracies(
                    how, ways, shots, plan.count(how, shots), settings[how]
                )
                for ways, shots in plan.points
            ]
        return found

    return act


def _chosen(plan: Plan, bench: Bench) -> dict[str, float]:
    """The decay and the rate of the highest accuracy on held-out classes."""

    def best(how: str, settings: Sequence[float], count: int) -> float:
        def score(setting: float) -> float:
            each = [
                bench.accuracies(how, plan.ways, shots, count, setting)
                for shots in (plan.many_shots[0], plan.shots)
            ]
            return float(np.mean(each))

        return max(settings, key=score)

    return {
        "probe": best("probe", plan.decays, plan.choosing),
        "tuned": best("tuned", plan.rates, max(1, plan.choosing // 2)),
    }


def _arm(arm: Arm, told: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "parameters": count_parameters(lookup(arm.model).build(arm.sizes)),
        "pretrained": spread([each["pretrained"] for each in told]),
        "settings": {how: [each["settings"][how] for each in told] for how in HOW},
    }


def _points(plan: Plan, told: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Every point of both figures: spreads, intervals, differences of the first arm."""
    first, *rivals = told
    rows: list[dict[str, Any]] = []
    for how in HOW:
        for at, (ways, shots) in enumerate(plan.points):
            each = {n: np.array([one[how][at] for one in told[n]]) for n in told}
            rows.append(
                {
                    "how": how,
                    "ways": ways,
                    "shots": shots,
                    "episodes": each[first].size,
                    "arms": {n: _interval(a) for n, a in each.items()},
                    "against": {n: _against(each[first], each[n]) for n in rivals},
                }
            )
    return rows


def _interval(accuracies: Array) -> dict[str, Any]:
    """Spread over seeds, and the 95 % interval of the mean over all episodes."""
    over = compared(accuracies.ravel().tolist(), [0.0] * accuracies.size)
    seeds = spread(accuracies.mean(1).tolist())
    return seeds | {"low": over["low"], "high": over["high"]}


def _against(ours: Array, theirs: Array) -> dict[str, Any]:
    """Differences paired by episode, and those of the means of every seed."""
    return {
        "episodes": compared(ours.ravel().tolist(), theirs.ravel().tolist()),
        "seeds": compared(ours.mean(1).tolist(), theirs.mean(1).tolist()),
    }


def _along(found: dict[str, Any], axis: str, how: str) -> list[dict[str, Any]]:
    """The points along ways or shots, the other held as the facts say."""
    other = "ways" if axis == "shots" else "shots"
    rows = [
        row
        for row in found["points"]
        if row["how"] == how and row[other] == found["facts"][other]
    ]
    return sorted(rows, key=lambda row: row[axis])


def tell(found: dict[str, Any]) -> str:
    """The trained models, then a table of shots and one of ways."""
    facts, arms = found["facts"], found["arms"]
    seen, held, unseen = facts["classes"]
    lines = [
        f"{Path(facts['data']).stem}: pre-trained on {facts['images']:,} images of "
        f"{seen} classes, adapted to others: settings chosen on {held}, figures from "
        f"{unseen}. {facts['queries']} queries a class, the same episodes for all. "
        "Linear probe: logistic regression on the features before the last layer; "
        f"fine-tuned: {facts['steps']} steps on all weights, the last layer from 0. "
        "Differences in points of accuracy, paired by episode, with the 95 % interval "
        "over the episodes of all seeds; in brackets that over the seeds, which are of "
        "pre-training too.",
        "",
        "| | parameters | accuracy on the test images of pre-training, % | decay of "
        "the probe | rate of fine-tuning |",
        "|---|---|---|---|---|",
    ]
    for name, arm in arms.items():
        cells = [f"{arm['parameters']:,}", percent(arm["pretrained"])]
        cells += [", ".join(f"{v:g}" for v in arm["settings"][how]) for how in HOW]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", f"Accuracy, %, at {facts['ways']} ways:", ""]
    lines += _table(found, "shots", 1)
    lines += ["", f"Lift, accuracy × ways, at {facts['shots']} shots:", ""]
    return "\n".join(lines + _table(found, "ways", 0))


def _table(found: dict[str, Any], axis: str, shares: int) -> list[str]:
    """A row a point, accuracies in per cent if they are shares, else lifts."""
    names = list(found["arms"])
    heads = [f"adapted, {axis}", "episodes", *names]
    heads += [f"{names[0]} − {rival}" for rival in names[1:]]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for how, called in HOW.items():
        for row in _along(found, axis, how):
            each = [row["arms"][name] for name in names]
            cells = [f"{called}, {row[axis]}", str(row["episodes"])]
            cells += [percent(e) if shares else _lift(e, row["ways"]) for e in each]
            cells += [_difference(each) for each in row["against"].values()]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _lift(accuracy: dict[str, Any], ways: int) -> str:
    return f"{ways * accuracy['mean']:.2f} ± {ways * accuracy['deviation']:.2f}"


def _difference(found: dict[str, Any]) -> str:
    low, high = (100 * found["seeds"][end] for end in ("low", "high"))
    return f"{points(found['episodes'])} ([{low:+.1f}, {high:+.1f}])"


def draw(found: dict[str, Any], path: Path) -> None:
    """Accuracy over shots and lift over ways; fine-tuned dashed, 95 % intervals."""
    from nacs.draw import COLOURS, plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for side, axis in zip(axes, ("shots", "ways"), strict=True):
        for (how, called), style in zip(HOW.items(), ("-", "--"), strict=True):
            rows = _along(found, axis, how)
            x = [row[axis] for row in rows]
            scales = [100 if axis == "shots" else row["ways"] for row in rows]
            for name, colour in zip(found["arms"], COLOURS, strict=False):
                mean, low, high = (
                    [
                        s * row["arms"][name][k]
                        for s, row in zip(scales, rows, strict=True)
                    ]
                    for k in ("mean", "low", "high")
                )
                label = f"{name}, {called}"
                side.plot(x, mean, f"o{style}", color=colour, label=label, markersize=3)
                side.fill_between(x, low, high, color=colour, alpha=0.12)
        side.set_xscale("log", base=2)
        places = [row[axis] for row in _along(found, axis, "probe")]
        side.set_xticks(places, list(map(str, places)))
        side.set_xlabel(axis)
        side.grid(alpha=0.3)
    axes[0].set_ylabel(f"accuracy at {found['facts']['ways']} ways, %")
    axes[1].set_ylabel(f"lift at {found['facts']['shots']} shots, × chance")
    axes[0].legend(fontsize=7, handlelength=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


EXPERIMENT = Experiment(
    title="Figures 4 and 9: adaptation to few samples of unseen classes",
    paper="from ImageNet to CUB-2011 and CIFAR, 8 ways: circuits about 10 % ahead of "
    "Perceiver IO, which has 48 layers to their 8, with 1 to 4 shots; ahead too from 1 "
    "to 64 ways at 8 shots (pictures, no other numbers given).",
    run=run,
    tell=tell,
    draw=draw,
)
