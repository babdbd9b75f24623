"""The sequences of table 3: ListOps and film reviews, and the models that read them.

scale  →  tasks: data, the circuit's sizes, training  →  arms of as many parameters
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nacs import data
from nacs.attentive import AttentiveConfig, presets
from nacs.baselines.transformer import TransformerConfig
from nacs.data.base import Array, Dataset, Split
from nacs.data.listops import make_listops, read_released
from nacs.data.readers import read
from nacs.data.splits import Samples, assemble
from nacs.experiments import images
from nacs.experiments.images import PERCEIVER, same_size
from nacs.experiments.workshop import Arm, Workshop
from nacs.models import count_parameters, lookup
from nacs.recipe import TrainConfig
from nacs.tasks import fitted
from nacs.tokenizers import TokenizerConfig

__all__ = [
    "ARMS",
    "LISTOPS",
    "LONG",
    "NAC",
    "PERCEIVER",
    "REVIEWS",
    "TRANSFORMER",
    "Task",
    "arms",
    "lengths",
    "tasks",
]

NAC, TRANSFORMER = "NAC", "Transformer"
ARMS = (NAC, PERCEIVER, TRANSFORMER)
LISTOPS, REVIEWS, LONG = "listops", "reviews", "long-reviews"

RATES = {
    LISTOPS: {NAC: 3e-3, PERCEIVER: 3e-3, TRANSFORMER: 3e-3},
    REVIEWS: {NAC: 1e-3, PERCEIVER: 1e-3, TRANSFORMER: 1e-3},
    LONG: {NAC: 3e-3, PERCEIVER: 3e-3},
}
"""Learning rates at `here`, the same for all arms; what was tried is in docs/LOG.md.
Arms without one are not trained: a Transformer of 4,000 bytes takes a day."""

HERE_BYTES = {REVIEWS: 256, LONG: 4000}
"""Bytes kept of a review: few where a Transformer reads them, whose cost grows as their
square, else as many as the paper keeps."""

HERE_REVIEWS = (16_000, 2_000, 4_000)
"""Reviews to learn from, to choose by and to test on."""


def _circuit(width: int, layers: int, **changes: Any) -> AttentiveConfig:
    """A small circuit whose heads share the width, each with a quarter of it."""
    circuit = AttentiveConfig(
        tokenizer=TokenizerConfig(kind="tokens", width=width),
        modules=32,
        outputs=4,
        width=width,
        code=width,
        signature=32,
        layers=layers,
        heads=4,
        edge_heads=4,
        head_width=width // 4,
        hidden=2 * width,
        bandwidth=0.5,
        learnable_bandwidth=True,
    )
    return replace(circuit, **changes)


HERE = {
    LISTOPS: _circuit(48, layers=3, wiring="relay", readers=48, states="seeded"),
    REVIEWS: _circuit(32, layers=2),
    LONG: _circuit(32, layers=2, states="seeded"),
}
"""Circuits that, with their rivals, are trained on two cores in a few hours. Of
expressions everybody hears the readers, which are as many as there are symbols at most;
states that are normalised keep the read-in of thousands of bytes from standing still.
What else was tried is in docs/LOG.md."""

HERE_TRAINING = {
    LISTOPS: TrainConfig(epochs=3, warmup_epochs=0.3, graph_weight=0.01),
    REVIEWS: TrainConfig(epochs=2, batch=32, warmup_epochs=0.2, graph_weight=0.01),
    LONG: TrainConfig(epochs=3, batch=32, warmup_epochs=0.3, graph_weight=0.01),
}
"""How they are trained."""

HERE_SEEDS = {LISTOPS: tuple(range(6))}
"""Expressions tell models apart by less than three seeds spread."""

PAPER_TRAINING = replace(
    images.PAPER_TRAINING, mixup=0.0, cutmix=0.0, randaugment=0, erasing=0.0, repeats=1
)
"""Table 4's recipe without what is for images."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One half of the table: data, the circuit's sizes, and how all are trained."""

    name: str
    """`LISTOPS`, `REVIEWS` or `LONG`."""

    dataset: Dataset
    """With its splits."""

    like: AttentiveConfig
    """The circuit, which the rivals are made as large as."""

    training: TrainConfig
    """Of all arms, but for the learning rate."""

    rates: dict[str, float]
    """Learning rates by arm."""

    released: Split | None = None
    """Rows whose labels others published, no longer than those trained on."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of every arm."""


def tasks(work: Workshop) -> list[Task]:
    """The tasks of a workshop's scale.

    smoke: a few short samples and made-up reviews; here: `listops-short`, and IMDb cut
    to 256 bytes and to 4,000; paper: lengths of the LRA, with table 4's sizes and
    recipe, for the paper gives none for these tasks.
    """
    make = {"smoke": _smoke, "here": _here, "paper": _paper}[work.scale]
    return [replace(task, like=fitted(task.like, task.dataset)) for task in make(work)]


def arms(task: Task) -> list[Arm]:
    """The circuit, and rivals of as many parameters that read with the same tokenizer.

    Args:
        task: Whose circuit, for whose data.
    """
    like = task.like
    wanted = count_parameters(lookup("attentive").build(like))
    plain = TransformerConfig(
        tokenizer=like.tokenizer,
        classes=like.classes,
        width=like.width,
        layers=like.layers,
        heads=like.heads,
        hidden=like.hidden,
    )
    equal = {PERCEIVER: presets.perceiver(like), TRANSFORMER: plain}
    models = {PERCEIVER: "perceiver", TRANSFORMER: "transformer"}
    rivals = [
        Arm(name=name, model=model, sizes=same_size(model, equal[name], wanted))
        for name, model in models.items()
        if name in task.rates
    ]
    return [Arm(name=NAC, model="attentive", sizes=like), *rivals]


def lengths(split: Split) -> Array:
    """(samples,) how many symbols of each sample a model sees."""
    found = np.array([len(sample) for sample in split.inputs])
    return found if split.limit is None else np.minimum(found, split.limit)


def _smoke(work: Workshop) -> list[Task]:
    """Samples of a few symbols and made-up reviews: nothing is read."""
    del work
    like, training = presets.tiny(), TrainConfig(epochs=1, learning_rate=3e-3)
    short = assemble(make_listops((200, 50, 50), shortest=5, longest=20), seed=0)
    both = {LISTOPS: short, REVIEWS: _made_reviews(200)}
    return [
        Task(
            name=n,
            dataset=d,
            like=like,
            training=training,
            rates=RATES[n],
            seeds=(0, 1),
        )
        for n, d in both.items()
    ]


def _here(work: Workshop) -> list[Task]:
    """What two processor cores train in a few hours."""
    short = data.load("listops-short")
    if work.files is not None and (work.files / "imdb_train.jsonl.xz").is_file():
        whole = _reviews(work)
        reviews = {name: whole.limited(n) for name, n in HERE_BYTES.items()}
    else:
        reviews = {n: data.load("imdb", length=b) for n, b in HERE_BYTES.items()}
    longest = int(lengths(short.test).max())
    return [
        Task(
            name=name,
            dataset=dataset,
            like=HERE[name],
            training=HERE_TRAINING[name],
            rates=RATES[name],
            released=_released(work, longest) if name == LISTOPS else None,
            seeds=HERE_SEEDS.get(name, Task.seeds),
        )
        for name, dataset in {LISTOPS: short, **reviews}.items()
    ]


def _paper(work: Workshop) -> list[Task]:
    """Lengths of the LRA, with table 4's sizes and recipe, without its augmentation."""
    del work
    reviews = data.load("imdb", length=HERE_BYTES[LONG])
    both = {LISTOPS: data.load("listops"), LONG: reviews}
    rates = dict.fromkeys(RATES[LISTOPS], PAPER_TRAINING.learning_rate)
    like = presets.tiny_imagenet()
    return [
        Task(name=n, dataset=d, like=like, training=PAPER_TRAINING, rates=rates)
        for n, d in both.items()
    ]


def _released(work: Workshop, longest: int) -> Split | None:
    """Released rows of up to some length; None without the file that has them."""
    path = (work.files or Path()) / "listops_spinn.zip"
    if work.files is None or not path.is_file():
        return None
    samples = read_released(path)
    whole = Split(samples.inputs, samples.targets, samples.ids)
    return whole.take(np.flatnonzero(lengths(whole) <= longest))


def _reviews(work: Workshop) -> Dataset:
    """Some IMDb reviews of each published half; validation is drawn from training."""
    seen = read(work.file("imdb_train.jsonl.xz", "give the folder that has it"))
    unseen = read(work.file("imdb_test_even.jsonl.xz", "give the folder that has it"))
    random = np.random.default_rng(0)
    train, val, test = HERE_REVIEWS
    learnt = random.permutation(len(seen.inputs))[: train + val]
    tested = random.permutation(len(unseen.inputs))[:test]
    chosen = [(seen, i) for i in learnt] + [(unseen, i) for i in tested]
    samples = replace(
        seen,
        inputs=[source.inputs[i] for source, i in chosen],
        targets=np.array([source.targets[i] for source, i in chosen]),
        ids=np.array([source.ids[i] for source, i in chosen]),
        parts=np.repeat(np.arange(3), HERE_REVIEWS),
    )
    return assemble(samples, seed=0)


def _made_reviews(count: int) -> Dataset:
    """Sentences that praise or blame with one word of four each."""
    words = (("dull", "poor", "bad", "weak"), ("fine", "good", "great", "moving"))
    random = np.random.default_rng(0)
    targets = random.integers(2, size=count)
    said = [
        f"A {words[t][random.integers(4)]} film, {words[t][random.integers(4)]} acting."
        for t in targets
    ]
    samples = Samples(
        name="made-up reviews",
        kind="bytes",
        inputs=[np.frombuffer(text.encode(), np.uint8) for text in said],
        targets=targets,
        ids=np.arange(count).astype(str),
        classes=("blame", "praise"),
    )
    return assemble(samples, seed=0)
