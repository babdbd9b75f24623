"""Table 3: ListOps, and the mood of film reviews told from their bytes.

tasks × arms × seeds  →  accuracy: all, by length, on released rows  →  bars and dots
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nacs.data.base import Array, Split
from nacs.data.listops import OPERATORS, SYMBOLS
from nacs.errors import UserError
from nacs.evaluation import predict
from nacs.experiments.sequences import (
    LISTOPS,
    LONG,
    NAC,
    PERCEIVER,
    REVIEWS,
    TRANSFORMER,
    Task,
    arms,
    lengths,
    tasks,
)
from nacs.experiments.statistics import compared, percent, points, spread
from nacs.experiments.workshop import Arm, Experiment, Run, Workshop
from nacs.models import count_parameters, lookup

__all__ = ["EXPERIMENT", "groups", "length_edges"]

TITLES = {
    LISTOPS: "ListOps",
    REVIEWS: "film reviews as bytes",
    LONG: "film reviews as bytes, long",
}
MAJORITY, COUNTS = "the most frequent class", "counts of symbols, logistic regression"
PAPER = {
    LISTOPS: {TRANSFORMER: "37.1", PERCEIVER: "39.7", NAC: "41.4"},
    REVIEWS: {TRANSFORMER: "65.4", PERCEIVER: "66.5", NAC: "68.2"},
    LONG: {TRANSFORMER: "65.4", PERCEIVER: "66.5", NAC: "68.2"},
}
"""Its table 3, per cent: ListOps of 500 to 2,000 symbols, reviews of 4,000 bytes."""

BINS = 4
"""Groups of test samples by length, as equal in number as lengths allow."""


def run(work: Workshop) -> dict[str, Any]:
    """Every task, arm and seed, beside what needs no such model."""
    asked = tasks(work)
    work.expect(sum(len(arms(task)) * len(task.seeds) for task in asked))
    return {"tasks": {task.name: _figures(task, work) for task in asked}}


def _figures(task: Task, work: Workshop) -> dict[str, Any]:
    """All figures of a task."""
    compete, edges = arms(task), length_edges(task.dataset.test)
    found: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in compete}
    for seed in task.seeds:
        for arm in compete:
            one = _runs(task, work, arm, seed)
            told = one.measure(
                "accuracies", _scores(task, edges), edges=edges, tested=_size(task)
            )
            last = one.history()[-1]
            more = {key: last[key] for key in ("seconds", "density") if key in last}
            found[arm.name].append(told | more)
    rows = {arm.name: _row(arm, task, found[arm.name]) for arm in compete}
    for row in rows.values():
        ours, theirs = rows[NAC]["accuracy"], row["accuracy"]
        row["behind"] = compared(ours["seeds"], theirs["seeds"])
    return {"facts": _facts(task, edges), "rows": rows, "plain": _plain(task)}


def _runs(task: Task, work: Workshop, arm: Arm, seed: int) -> Run:
    training = replace(task.training, learning_rate=task.rates[arm.name])
    return work.runs(task.name, [arm], task.dataset, training, seed)[arm.name]


def _size(task: Task) -> list[int]:
    """How many samples are tested: measures of others are not these."""
    splits = (task.dataset.test, task.released)
    return [len(split) for split in splits if split is not None]


def _scores(task: Task, edges: list[int]) -> Callable[[nn.Module], dict[str, Any]]:
    """What measures a model: accuracy over all, by length, and on released rows."""
    test, released = task.dataset.test, task.released
    group = groups(test, edges)

    def act(model: nn.Module) -> dict[str, Any]:
        right = _right(model, test)
        told: dict[str, Any] = {
            "accuracy": right.mean(),
            "validation": _right(model, task.dataset.val).mean(),
            "by length": [right[group == g].mean() for g in range(len(edges) - 1)],
        }
        if task.name == LISTOPS:
            told["by operator"] = _by_operator(right, test)
        if released is not None:
            told["released"] = _right(model, released).mean()
        return told

    return act


def _by_operator(right: Array, split: Split) -> dict[str, float]:
    """Accuracy on the expressions whose outermost operator is this one.

    Args:
        right: (samples,) 1 where the answer was right, else 0.
        split: Of ListOps, whose expressions begin with that operator.
    """
    first = np.array([SYMBOLS[sample[0]] for sample in split.inputs])
    return {name: right[first == name].mean() for name in OPERATORS}


def _right(model: nn.Module, split: Split) -> Array:
    """(samples,) 1 where the likeliest class is the right one, else 0."""
    answers = predict(model, split).argmax(-1)
    return (answers == torch.from_numpy(split.targets)).double().numpy()


def length_edges(split: Split) -> list[int]:
    """Bounds of groups by length, as equal in number as lengths allow.

    A group holds what is longer than the bound before it and no longer than its own;
    the first holds the shortest too.
    """
    shares = np.linspace(0, 1, BINS + 1)
    edges = np.unique(np.quantile(lengths(split), shares).round().astype(int)).tolist()
    return edges if len(edges) > 1 else [edges[0] - 1, *edges]


def groups(split: Split, edges: list[int]) -> Array:
    """(samples,) which group each sample is in, counted from 0; see `length_edges`."""
    return np.searchsorted(edges[1:-1], lengths(split))


def _row(arm: Arm, task: Task, each: list[dict[str, Any]]) -> dict[str, Any]:
    """Spreads over seeds."""
    by_length = zip(*(one["by length"] for one in each), strict=True)
    row: dict[str, Any] = {
        "parameters": count_parameters(lookup(arm.model).build(arm.sizes)),
        "learning rate": task.rates[arm.name],
        "by length": [spread(group) for group in by_length],
    }
    for key in ("accuracy", "validation", "released", "seconds", "density"):
        if key in each[0]:
            row[key] = spread([one[key] for one in each])
    if "by operator" in each[0]:
        row["by operator"] = {
            name: spread([one["by operator"][name] for one in each])
            for name in OPERATORS
        }
    return row


def _facts(task: Task, edges: list[int]) -> dict[str, Any]:
    dataset, training = task.dataset, task.training
    splits = (dataset.train, dataset.val, dataset.test)
    return {
        "data": Path(dataset.name).name,
        "samples": [len(split) for split in splits],
        "released": 0 if task.released is None else len(task.released),
        "edges": edges,
        "limit": dataset.train.limit,
        "epochs": training.epochs,
        "batch": training.batch,
        "modules": task.like.modules,
        "layers": task.like.layers,
    }


def _plain(task: Task) -> dict[str, dict[str, float]]:
    """What is right without a model, or with one that knows of no order."""
    train, splits = task.dataset.train, {"accuracy": task.dataset.test}
    if task.released is not None:
        splits["released"] = task.released
    frequent = np.bincount(train.targets).argmax()
    counts = _counter(train)
    return {
        MAJORITY: {k: (s.targets == frequent).mean() for k, s in splits.items()},
        COUNTS: {k: (counts(s) == s.targets).mean() for k, s in splits.items()},
    }


def _counter(train: Split) -> Callable[[Split], Array]:
    """Logistic regression on how often every symbol occurs.

    Raises:
        UserError: If scikit-learn is missing.
    """
    try:
        from sklearn import linear_model, pipeline, preprocessing  # pyright: ignore
    except ImportError as error:
        raise UserError(
            "counting symbols needs scikit-learn; install it with: "
            "pip install 'nacs[experiments]'"
        ) from error
    model: Any = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=1000)
    )
    model.fit(_counts(train), train.targets)
    return lambda split: model.predict(_counts(split))


def _counts(split: Split) -> Array:
    """(samples, 256) log(1 + n) of the n times that a symbol occurs."""
    seen = (np.asarray(sample[: split.limit]) for sample in split.inputs)
    return np.log1p(np.stack([np.bincount(each, minlength=256) for each in seen]))


def tell(found: dict[str, Any]) -> str:
    """A table a task, in per cent; differences in points."""
    return "\n\n".join(_table(name, told) for name, told in found["tasks"].items())


def _table(name: str, told: dict[str, Any]) -> str:
    facts, rows = told["facts"], told["rows"]
    train, val, test = facts["samples"]
    cut = "" if facts["limit"] is None else f", cut to {facts['limit']:,} symbols"
    spans = _spans(facts["edges"])
    heads = ["parameters", "seconds", "rate", "accuracy", "NAC − it", *spans]
    heads += ["released rows"] * bool(facts["released"]) + ["paper"]
    lines = [
        f"**{TITLES[name]}** ({Path(facts['data']).name}{cut}): {train:,} samples to "
        f"learn from, {val:,} to choose by, {test:,} tested; {facts['epochs']} epochs "
        f"in batches of {facts['batch']}, {len(rows[NAC]['accuracy']['seeds'])} seeds; "
        f"NAC of {facts['modules']} modules and {facts['layers']} layers, link density "
        f"{_density(rows[NAC])}.",
        "",
        f"| | {' | '.join(heads)} |",
        "|---|" + "---|" * len(heads),
    ]
    for arm, row in rows.items():
        cells = [f"{row['parameters']:,}", f"{row['seconds']['mean']:.0f}"]
        cells += [f"{row['learning rate']:g}", percent(row["accuracy"])]
        cells += ["" if arm == NAC else points(row["behind"])]
        cells += [percent(group) for group in row["by length"]] if spans else []
        cells += [percent(row["released"])] if facts["released"] else []
        cells += [PAPER[name].get(arm, "")]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    for arm, row in told["plain"].items():
        cells = ["", "", "", f"{100 * row['accuracy']:.1f}", "", *("" for _ in spans)]
        cells += [f"{100 * row['released']:.1f}"] if facts["released"] else []
        lines.append(f"| {arm} | {' | '.join([*cells, ''])} |")
    return "\n".join(lines + _operators(rows))


def _operators(rows: dict[str, Any]) -> list[str]:
    """A table of accuracy by the outermost operator; nothing where there are none."""
    if "by operator" not in rows[NAC]:
        return []
    lines = [
        "",
        f"| outermost operator | {' | '.join(rows)} |",
        "|---|" + "---|" * len(rows),
    ]
    for name in OPERATORS:
        cells = [percent(row["by operator"][name]) for row in rows.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _spans(edges: list[int]) -> list[str]:
    """Headings of the groups by length; none if there is one group alone."""
    starts = [edges[0], *(edge + 1 for edge in edges[1:-1])]
    told = [f"{a}–{b} symbols" for a, b in zip(starts, edges[1:], strict=True)]
    return told if len(told) > 1 else []


def _density(row: dict[str, Any]) -> str:
    return f"{row['density']['mean']:.2f}" if "density" in row else "unknown"


def draw(found: dict[str, Any], path: Path) -> None:
    """Bars with a dot a seed for each task, and ListOps by length.

    Args:
        found: What `run` found.
        path: A file ending in .png or .svg.
    """
    from matplotlib import pyplot as plt

    from nacs.draw import COLOURS

    both = found["tasks"]
    figure, axes = plt.subplots(
        1, len(both) + 1, figsize=(4.4 * (len(both) + 1), 4.4), layout="constrained"
    )
    for side, (name, told) in zip(axes, both.items(), strict=False):
        for place, (row, colour) in enumerate(
            zip(told["rows"].values(), COLOURS, strict=False)
        ):
            heights = [100 * seed for seed in row["accuracy"]["seeds"]]
            side.bar(place, 100 * row["accuracy"]["mean"], color=colour, alpha=0.6)
            side.plot([place] * len(heights), heights, "o", color="#333333", ms=4)
        styles = zip(told["plain"].items(), (":", "--"), strict=True)
        for (label, row), style in styles:
            side.axhline(100 * row["accuracy"], ls=style, color="#555555", label=label)
        side.set_xticks(range(len(told["rows"])), list(told["rows"]))
        side.set_title(TITLES[name])
        side.set_ylabel("test accuracy, %")
        side.legend(fontsize="small", loc="lower center")
    told = both[LISTOPS]
    spans = [span.partition(" ")[0] for span in _spans(told["facts"]["edges"])]
    for (arm, row), colour in zip(told["rows"].items(), COLOURS, strict=False):
        means = [100 * group["mean"] for group in row["by length"]]
        errors = [100 * group["deviation"] for group in row["by length"]]
        axes[-1].errorbar(
            spans or [""], means, errors, fmt="o-", color=colour, label=arm, capsize=3
        )
    axes[-1].set_xlabel("symbols in the sample")
    axes[-1].set_title("ListOps by length")
    axes[-1].legend(fontsize="small")
    figure.savefig(path, dpi=130)
    plt.close(figure)


EXPERIMENT = Experiment(
    title="Table 3: ListOps, and text from its bytes",
    paper="NAC 41.4 % on ListOps and 68.2 % on film reviews of up to 4,000 bytes; "
    "Perceiver IO 39.7 % and 66.5 %, a Transformer 37.1 % and 65.4 %.",
    run=run,
    tell=tell,
    draw=draw,
)
