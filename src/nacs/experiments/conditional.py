"""Figures 6, 16, 17: a sentence writes the circuit that looks at a picture.

scenes and NLVR  →  circuit, its two blind twins, Perceiver IO  →  accuracy by test
templates        →  links of the circuits they write            →  maps, silhouettes
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from nacs.attentive import AttentiveCircuit
from nacs.data.base import Array, Split
from nacs.data.scenes import SKILLS
from nacs.evaluation import predict
from nacs.experiments.conditional_pictures import draw
from nacs.experiments.conditional_setting import (
    CIRCUIT,
    NEW,
    Setting,
    setting,
)
from nacs.experiments.statistics import compared, percent, points, spread
from nacs.experiments.templates import (
    TEMPLATES,
    Told,
    drawn,
    features,
    map_of,
    reduced,
    separation,
)
from nacs.experiments.workshop import Arm, Experiment, Run, Workshop
from nacs.graph import circuit_graph
from nacs.models import count_parameters, lookup

__all__ = ["EXPERIMENT"]

SHOWN = (
    "there are exactly two yellow squares",
    "there are many yellow squares",
    "there is a yellow square",
    "there is a yellow square above a black square",
)
"""Whose circuits are drawn."""


def run(work: Workshop) -> dict[str, Any]:
    """Every arm and seed; what the circuit writes for the templates."""
    made = setting(work)
    arms = made.arms()
    work.expect(len(arms) * len(made.seeds) * (2 if made.first else 1))
    rows: dict[str, list[dict[str, float]]] = {arm.name: [] for arm in arms}
    wrote: list[Run] = []
    for seed in made.seeds:
        for arm in arms:
            one, tests = made.run(arm, seed)
            rows[arm.name].append(_right(one, tests, made.skills))
            wrote += [one] if arm.name == CIRCUIT else []
    each = [_separations(one, made) for one in wrote]
    sizes = {arm.name: _parameters(arm) for arm in arms}
    trained = {"epochs": made.training.epochs, "parameters": sizes}
    if made.first is not None:
        trained["first"] = {"epochs": made.first.epochs, "samples": len(made.easy)}
    return {
        "facts": made.facts | trained,
        "rows": {name: _spreads(found) for name, found in rows.items()},
        "against": _against(rows),
        "skills": {
            words: {what: spread([one[words][what] for one in each]) for what in row}
            for words, row in each[0].items()
        },
        "shown": _shown(wrote[0], made),
    }


def _parameters(arm: Arm) -> int:
    return count_parameters(lookup(arm.model).build(arm.sizes))


def _right(one: Run, tests: dict[str, Split], skills: Array) -> dict[str, float]:
    """The share of right answers by test; of scenes with new sentences, by skill."""

    def act(model: nn.Module) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, split in tests.items():
            right = predict(model, split).argmax(-1).numpy() == split.targets
            found[name] = float(right.mean())
            for skill in SKILLS if name == NEW else ():
                found[skill] = float(right[skills == skill].mean())
        return found

    counts = {name: len(split) for name, split in tests.items()}
    return one.measure("accuracy", act, counts=counts)


def _spreads(each: list[dict[str, float]]) -> dict[str, Any]:
    return {name: spread([one[name] for one in each]) for name in each[0]}


def _against(rows: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """How much better the circuit is than each other arm, seed by seed."""
    return {
        name: {
            test: compared(
                [one[test] for one in rows[CIRCUIT]], [o[test] for o in each]
            )
            for test in each[0]
        }
        for name, each in rows.items()
        if name != CIRCUIT
    }


def _told(made: Setting) -> dict[str, list[Told]]:
    """The templates' sentences, at most so many of each skill."""
    most = made.work.pick(smoke=12, here=300, paper=3000)
    return {name: drawn(told, most) for name, told in TEMPLATES.items()}


def _rows(made: Setting, model: nn.Module, told: list[Told], what: Any) -> Array:
    """A row of numbers a sentence: see `templates.features`."""
    assert isinstance(model, AttentiveCircuit)
    count = len(told)
    blank = Split(
        np.zeros((count, 1, 1, 1)),
        np.zeros(count, np.int64),
        np.arange(count).astype(str),
        contexts=[made.vocabulary.encode(text) for _, text in told],
    )
    batch = blank.batch(range(count))
    assert batch.context is not None
    assert batch.context_keep is not None
    return reduced(features(model, batch.context, batch.context_keep, what))


def _separations(one: Run, made: Setting) -> dict[str, dict[str, float]]:
    """Silhouettes over skills of what a circuit makes of the templates."""

    def act(model: nn.Module) -> dict[str, dict[str, float]]:
        with torch.random.fork_rng():
            torch.manual_seed(one.training.seed)
            fresh = lookup(one.arm.model).build(one.arm.sizes).eval()
        models = {"links": (model, "links"), "text": (model, "words")}
        models["links before training"] = (fresh, "links")
        return {
            words: {
                name: separation(_rows(made, its, told, what), told)
                for name, (its, what) in models.items()
            }
            for words, told in _told(made).items()
        }

    return one.measure("skills", act, told=_counts(made))


def _counts(made: Setting) -> dict[str, int]:
    return {name: len(told) for name, told in _told(made).items()}


def _shown(one: Run, made: Setting) -> dict[str, Any]:
    """What the pictures show: maps of the templates, and four circuits."""

    def act(model: nn.Module) -> dict[str, Any]:
        maps: dict[str, Any] = {}
        for words, told in _told(made).items():
            maps[words] = {"skills": [skill for skill, _ in told]}
            for what in ("links", "words"):
                maps[words][what] = map_of(_rows(made, model, told, what))
        return {"maps": maps, "circuits": [_circuit(made, model, s) for s in SHOWN]}

    return one.measure("shown", act, told=_counts(made), sentences=SHOWN)


@torch.no_grad()
def _circuit(made: Setting, model: nn.Module, sentence: str) -> dict[str, Any]:
    """The graph that a sentence writes: links with P > ½, and how dense all are."""
    assert isinstance(model, AttentiveCircuit)
    assert model.context_tokenizer is not None
    told = torch.from_numpy(made.vocabulary.encode(sentence)).unsqueeze(0)
    graph = circuit_graph(model, model.design(*model.context_tokenizer(told, None)))
    edges = [[i, j, round(p, 3)] for i, j, p in graph.edges()]
    return {
        "sentence": sentence,
        "modules": len(graph.links),
        "density": graph.density,
        "edges": edges,
    }


def tell(found: dict[str, Any]) -> str:
    """Accuracies by test, differences to the circuit, silhouettes."""
    facts, rows = found["facts"], found["rows"]
    tests = list(facts["tests"])
    asked = [name for name in rows[CIRCUIT] if name not in tests]
    lines = [
        f"Trained for {facts['epochs']} epochs on {facts['samples']['train']:,} "
        f"pictures with {facts['sentences']:,} sentences{_first(facts)}; "
        "a blind twin is the same circuit, for which one half of the input is always "
        "the same. Per cent right:",
        *["", *_head(["parameters", *tests])],
    ]
    for name, row in rows.items():
        cells = [f"{facts['parameters'][name]:,}", *(percent(row[t]) for t in tests)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name, key in (("commoner answer", "majority"), ("known sentences", "known")):
        cells = [f"{100 * facts['tests'][test][key]:.1f}" for test in tests]
        lines.append(f"| _{name}_ | | {' | '.join(cells)} |")
    lines += ["", f"{CIRCUIT} − the other, points:", "", *_head(tests)]
    for name, row in found["against"].items():
        lines.append(f"| {name} | {' | '.join(points(row[test]) for test in tests)} |")
    if asked:
        lines += ["", f"By skill, {NEW}, per cent:", "", *_head(asked)]
        for name, row in rows.items():
            lines.append(f"| {name} | {' | '.join(percent(row[a]) for a in asked)} |")
    return "\n".join([*lines, "", *_told_skills(found)])


def _first(facts: dict[str, Any]) -> str:
    """What was trained before that, if anything was."""
    if "first" not in facts:
        return ""
    first = facts["first"]
    return (
        f", after {first['epochs']} on the {first['samples']:,} of them with the "
        "easiest sentences (there is one, are any)"
    )


def _head(columns: list[str]) -> list[str]:
    return [f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]


def _told_skills(found: dict[str, Any]) -> list[str]:
    names = list(next(iter(found["skills"].values())))
    lines = [
        "Silhouette over the four skills of appendix H's templates (1: told apart, 0: "
        "mixed), of the link matrices after PCA, and of the mean word tokens from "
        "which the circuit is written (text), where the paper has CLIP's. Few of the "
        "paper's words were seen in training; each other has an untrained embedding.",
        "",
        *_head(names),
    ]
    for words, row in found["skills"].items():
        cells = [f"{row[n]['mean']:.3f} ± {row[n]['deviation']:.3f}" for n in names]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


EXPERIMENT = Experiment(
    title="Figures 6, 16, 17: circuits written from a sentence",
    paper="on NLVR2 with frozen CLIP tokens a conditional NAC reaches about 64 % of "
    "validation pairs, as Perceiver IO does (CLIP alone: 53 %); maps of the link "
    "matrices group sentences by reasoning skill, those of CLIP's own embeddings by "
    "object. Here: NLVR1, drawn pictures, no pretrained encoder. NLVR's forms come "
    "from a grammar that was written after the statements of its development file, to "
    "which validation belongs too; its test file was not read for it.",
    run=run,
    tell=tell,
    draw=draw,
)
