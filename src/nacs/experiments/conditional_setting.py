"""What figure 6 is tried on: scenes, NLVR, a circuit, its blind twins and a rival.

statements  →  train, validation, named tests  →  pictures with sentences as contexts
arm  →  trained with the easiest sentences  →  from there on with all

From all sentences at once nothing is learned for long: neither what is told nor what is
seen helps without the other.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from nacs.attentive import AttentiveConfig, presets
from nacs.data.base import Array, Dataset, Split
from nacs.data.nlvr import (
    Statement,
    Vocabulary,
    as_samples,
    read_statements,
    reordered,
    words,
)
from nacs.data.scenes import EASY, make_forms, make_scenes, sentences
from nacs.data.splits import PARTS, assemble, split_parts
from nacs.experiments.images import same_size
from nacs.experiments.workshop import Arm, Run, Workshop
from nacs.models import count_parameters, lookup
from nacs.recipe import TrainConfig
from nacs.tasks import fitted
from nacs.tokenizers import TokenizerConfig

__all__ = [
    "BLIND",
    "CIRCUIT",
    "FORMS",
    "KNOWN",
    "NEW",
    "RIVAL",
    "TEST",
    "VAL",
    "Setting",
    "blinded",
    "model_sizes",
    "setting",
]

CIRCUIT, RIVAL = "conditional NAC", "Perceiver IO of both"
BLIND = {f"{CIRCUIT}, {what}-blind": what for what in ("sentence", "picture")}
NEW, KNOWN = "scenes, new sentences", "scenes, known sentences"
FORMS = "scenes, NLVR's forms"
VAL, TEST = "NLVR, validation", "NLVR, test"
CONSTANT = "there is"
"""What a sentence-blind circuit is told of every picture."""

FILES = {"train": "train.json", "val": "dev.json", "test": "test.json"}
"""Of NLVR, by what they are for."""

Parts: TypeAlias = dict[str, list[Statement]]

HERE = AttentiveConfig(
    tokenizer=TokenizerConfig(
        kind="conv", width=64, channels=3, size=(32, 96), positions=16
    ),
    classes=2,
    modules=24,
    outputs=4,
    width=64,
    code=32,
    signature=16,
    layers=2,
    heads=2,
    head_width=32,
    hidden=64,
    states="seeded",
)
"""ε is 1, as in the paper: without a prior a smaller one cuts most links at first. θ⁰
is normalised, or the read-in may stay uniform."""

MIXED = 2
"""Blocks that mix neighbouring words: the paper's come from a pretrained encoder, which
has read the whole sentence."""

HERE_FIRST = TrainConfig(epochs=4, batch=32, learning_rate=3e-4, warmup_epochs=0.3)
HERE_TRAINING = replace(HERE_FIRST, warmup_epochs=0.1)

PAPER_TRAINING = TrainConfig(
    epochs=30, batch=512, learning_rate=3e-4, min_learning_rate=2e-5, warmup_epochs=2
)
"""The paper does not say how it trained on NLVR2; the rates are table 4's."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The setting of one scale: data, vocabulary, sizes, training, seeds."""

    work: Workshop
    dataset: Dataset
    tests: dict[str, Split]
    vocabulary: Vocabulary
    like: AttentiveConfig
    training: TrainConfig
    first: TrainConfig | None
    """How the easiest sentences are learned before all are, if they are."""

    easy: Array
    """Which training samples have the easiest sentences."""

    seeds: tuple[int, ...]
    facts: dict[str, Any]
    skills: Array
    """What the sentences of the scenes with new sentences ask for."""

    def arms(self) -> list[Arm]:
        """The circuit, its twins, and a rival of as many parameters."""
        twins = [
            Arm(name=name, model="attentive", sizes=self.like)
            for name in (CIRCUIT, *BLIND)
        ]
        wanted = count_parameters(lookup("attentive").build(self.like))
        equal = presets.perceiver(replace(self.like, generator="unconditional"))
        sizes = same_size("joint-perceiver", equal, wanted)
        return [*twins, Arm(name=RIVAL, model="joint-perceiver", sizes=sizes)]

    def run(self, arm: Arm, seed: int) -> tuple[Run, dict[str, Split]]:
        """An arm in training, and what it is asked."""
        dataset, tests = self.data(arm.name)
        before = None
        if self.first is not None:
            easy = replace(dataset, train=dataset.train.take(self.easy))
            before = self.work.runs("nlvr-first", [arm], easy, self.first, seed)
        runs = self.work.runs("nlvr", [arm], dataset, self.training, seed, before)
        return runs[arm.name], tests

    def data(self, name: str) -> tuple[Dataset, dict[str, Split]]:
        """What an arm learns from and what it is asked, blinded if it is blind."""
        if name not in BLIND:
            return self.dataset, self.tests
        told = self.vocabulary.encode(CONSTANT)

        def blind(split: Split) -> Split:
            return blinded(split, BLIND[name], told)

        train, val, test = map(
            blind, (self.dataset.train, self.dataset.val, self.dataset.test)
        )
        tests = {name: blind(split) for name, split in self.tests.items()}
        return replace(self.dataset, train=train, val=val, test=test), tests


def blinded(split: Split, what: str, constant: Array) -> Split:
    """The split with one sentence for all, or with pictures that show nothing.

    Args:
        split: Pictures with sentences as their contexts.
        what: sentence or picture: what cannot be seen.
        constant: The one sentence.
    """
    if what == "sentence":
        return replace(split, contexts=[constant] * len(split))
    inputs = np.zeros_like(np.asarray(split.inputs))
    return replace(split, inputs=inputs, mean=None, deviation=None)


def setting(work: Workshop) -> Setting:
    """The setting of a workshop's scale.

    smoke: templates' scenes alone; here: these, more in NLVR's forms, and NLVR's
    development file for training and validation; paper: all of NLVR, in table 4's
    sizes.

    Raises:
        UserError: If a file of NLVR is not among those given.
    """
    parts, tests = _statements(work)
    side = work.pick(smoke=8, here=32, paper=64)
    vocabulary = Vocabulary.of(each.sentence for each in parts["train"])
    named = [(part, each) for part in PARTS for each in parts[part]]
    samples = as_samples(
        [each for _, each in named],
        work.pick(smoke="scenes", here="scenes and NLVR", paper="NLVR"),
        encode=vocabulary.encode,
        kind="tokens",
        side=side,
        parts=np.array([PARTS.index(part) for part, _ in named]),
    )
    dataset = assemble(samples, seed=0)
    like = fitted(replace(model_sizes(work.scale), generator="conditional"), dataset)
    assert like.context is not None
    context = replace(
        like.context, vocabulary=vocabulary.size, length=64, blocks=(MIXED,)
    )
    skill = {each.text: each.skill for each in sentences()}
    asked = {k: _alike(dataset.test, v, vocabulary, side) for k, v in tests.items()}
    return Setting(
        work=work,
        dataset=dataset,
        tests=asked,
        vocabulary=vocabulary,
        like=replace(like, context=context),
        training=work.pick(
            smoke=TrainConfig(epochs=1), here=HERE_TRAINING, paper=PAPER_TRAINING
        ),
        first=work.pick(smoke=TrainConfig(epochs=1), here=HERE_FIRST, paper=None),
        easy=np.flatnonzero(
            [skill.get(each.sentence) == EASY for each in parts["train"]]
        ),
        seeds=work.pick(smoke=(0, 1), here=(0, 1, 2), paper=(0, 1, 2)),
        facts=_facts(parts, tests),
        skills=np.array([skill[each.sentence] for each in tests.get(NEW, [])]),
    )


def model_sizes(scale: str) -> AttentiveConfig:
    """The circuit of a scale, before it is fitted to the data."""
    if scale == "smoke":
        return presets.tiny()
    if scale == "here":
        return HERE
    stem = TokenizerConfig(
        kind="conv", width=256, channels=3, size=(64, 192), positions=64
    )
    return replace(presets.tiny_imagenet(), tokenizer=stem, classes=2)


def _statements(work: Workshop) -> tuple[Parts, Parts]:
    """What is learned from, and what is asked by name."""
    if work.scale == "paper":
        parts = {part: _six(_published(work, file)) for part, file in FILES.items()}
        return parts, {VAL: parts["val"], TEST: parts["test"]}
    if work.scale == "smoke":
        return _scenes(240, 60)
    dev, test = _published(work, FILES["val"]), _published(work, FILES["test"])
    parts, tests = _scenes(20_000, 1_000)
    parts["train"] += make_forms(60_000, seed=4, part="train")
    parts["val"] += make_forms(1_000, seed=5, part="val")
    tests[FORMS] = make_forms(2_000, seed=6, part="test")
    learned, val = _divided(dev)
    parts["train"] += _some(learned)
    parts["val"] += _six(val)
    return parts, tests | {VAL: _six(val), TEST: _six(test)}


def _published(work: Workshop, file: str) -> list[Statement]:
    """The rows of a file of NLVR among those given."""
    otherwise = f"pack {file} of lil-lab/nlvr with xz as nlvr1_{file}.xz."
    return read_statements(work.file(f"nlvr1_{file}.xz", otherwise))


def _scenes(count: int, held: int) -> tuple[Parts, Parts]:
    """Scenes to learn from, and some with new and with known sentences."""
    parts: Parts = {
        "train": make_scenes(count, seed=0, part="train"),
        "val": make_scenes(held, seed=1, part="val"),
        "test": make_scenes(held, seed=2, part="test"),
    }
    return parts, {NEW: parts["test"], KNOWN: make_scenes(held, seed=3, part="train")}


def _six(rows: list[Statement]) -> list[Statement]:
    return [each for row in rows for each in reordered(row)]


def _some(rows: list[Statement]) -> list[Statement]:
    """Each statement in two of its six orders: with all, NLVR is learned by heart."""
    random = np.random.default_rng(0)
    return [
        reordered(row)[order]
        for row in rows
        for order in sorted(random.permutation(6)[:2])
    ]


def _divided(rows: list[Statement]) -> tuple[list[Statement], list[Statement]]:
    """Statements to learn from and to choose by, which share no sentence."""
    held = split_parts(
        np.array([row.true for row in rows], dtype=np.int64),
        seed=0,
        fractions=(0.15, 0.0),
        groups=np.array([" ".join(words(row.sentence)) for row in rows]),
    )
    val = PARTS.index("val")
    pairs = list(zip(rows, held, strict=True))
    return [row for row, p in pairs if p != val], [row for row, p in pairs if p == val]


def _alike(
    like: Split, asked: list[Statement], vocabulary: Vocabulary, side: int
) -> Split:
    """Statements as a split that is normalised like another."""
    found = as_samples(
        asked, "asked", encode=vocabulary.encode, kind="tokens", side=side
    )
    return replace(
        like,
        inputs=found.inputs,
        targets=found.targets,
        ids=found.ids,
        contexts=found.contexts,
    )


def _facts(parts: Parts, tests: Parts) -> dict[str, Any]:
    """Counts, the answer that is right most often in training, what is known."""
    known = {each.sentence for each in parts["train"]}
    often = bool(np.mean([each.true for each in parts["train"]]) > 0.5)
    return {
        "samples": {part: len(each) for part, each in parts.items()},
        "sentences": len(known),
        "tests": {
            name: {
                "samples": len(asked),
                "majority": float(np.mean([each.true == often for each in asked])),
                "known": float(np.mean([each.sentence in known for each in asked])),
            }
            for name, asked in tests.items()
        },
    }
