"""Data sets, sizes and rivals of table 2: sets of points.

scale  →  data sets, each read by seed  ×  arms: the circuit and three rivals
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nacs import data
from nacs.attentive import AttentiveConfig, presets
from nacs.baselines.transformer import TransformerConfig
from nacs.data.base import Dataset
from nacs.data.point_sets import Axis, centred, drawn, make_solids
from nacs.data.splits import assemble
from nacs.errors import UserError
from nacs.experiments.images import perceivers, same_size
from nacs.experiments.workshop import Arm, Workshop
from nacs.models import count_parameters, lookup
from nacs.recipe import TrainConfig
from nacs.tokenizers import TokenizerConfig

__all__ = ["CIRCUIT", "Study", "arms", "crowded", "fitted", "studies"]

CIRCUIT = "NAC, scale-free"

SPACE: dict[Axis, tuple[int, ...]] = {
    "any": (0, 30, 60, 90, 120, 150, 180),
    "vertical": (0, 45, 90, 135, 180),
}
"""Degrees by the axis that objects in space are turned about."""

PLANE: dict[Axis, tuple[int, ...]] = {"vertical": (0, 15, 30, 45, 60, 75, 90)}
"""Degrees that pictures, which lie flat, are turned in their plane."""

HERE = AttentiveConfig(
    tokenizer=TokenizerConfig(kind="points", width=64, bands=4),
    modules=48,
    outputs=8,
    width=64,
    code=64,
    signature=32,
    layers=2,
    heads=2,
    head_width=32,
    hidden=128,
    bandwidth=0.25,
)
"""What two cores train in a minute or two."""

POINTS = 128
"""Of each object, in training and in tests."""

HERE_TRAINING = TrainConfig(
    epochs=4,
    batch=64,
    learning_rate=2e-3,
    warmup_epochs=0.5,
    signature_rate=10.0,
    label_smoothing=0.1,
)

PAPER_TRAINING = TrainConfig(
    epochs=400,
    batch=1024,
    learning_rate=6e-4,  # 3e-4 for a batch of 512
    min_learning_rate=2e-5,
    warmup_epochs=25,
)
"""Table 4's, without augmentation: the paper gives none of its own for points."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One data set: how it is read, learned and tested."""

    name: str
    """What tables call it."""

    told: str
    """What is trained on and tested on, in a few words."""

    read: Callable[[int], Dataset]
    """The three splits, as they are trained and tested on, for a seed."""

    like: AttentiveConfig
    """Sizes of the circuit."""

    training: TrainConfig
    """The same for all arms."""

    angles: dict[Axis, tuple[int, ...]]
    """Degrees by the axis that test objects are turned about; 0 is the first."""


def studies(work: Workshop) -> list[Study]:
    """The data sets of a workshop's scale.

    smoke: generated solids, and the 8 × 8 digits of scikit-learn; here: objects seen by
    airborne laser scanning, and 5,000 MNIST digits; paper: ModelNet40.

    Raises:
        UserError: If a file is missing.
    """
    chosen: Callable[[Workshop], list[Study]] = work.pick(
        smoke=_smoke, here=_here, paper=_paper
    )
    return chosen(work)


def crowded(work: Workshop) -> Study:
    """The digits, or what else is last, with modules enough to drop most of them.

    At `here` trained half as long: there are many arms, each of which takes twice the
    time.
    """
    last = studies(work)[-1]
    modules = work.pick(smoke=16, here=128, paper=320)
    training = work.pick(smoke=last.training, here=HERE_TRAINING, paper=last.training)
    return replace(last, like=replace(last.like, modules=modules), training=training)


def _smoke(work: Workshop) -> list[Study]:  # noqa: ARG001
    tokenizer = TokenizerConfig(kind="points", width=32, bands=3)
    like = replace(presets.tiny(), tokenizer=tokenizer)
    return [
        Study(
            name="solids",
            told="generated; copies turned about the vertical axis",
            read=_solids,
            like=like,
            training=TrainConfig(epochs=1),
            angles=SPACE,
        ),
        Study(
            name="digits",
            told="of scikit-learn",
            read=_digits,
            like=like,
            training=TrainConfig(epochs=1),
            angles=PLANE,
        ),
    ]


def _here(work: Workshop) -> list[Study]:
    objects = work.file("dales_objects_400.npz", "give --data, or --scale smoke")

    def scanned(seed: int) -> Dataset:
        read = data.load(objects, seed=seed)
        return drawn(read, points=POINTS, copies=8, turned=True, seed=seed)

    def written(seed: int) -> Dataset:
        read = data.load("points:mnist-5k")
        return drawn(read, points=POINTS, copies=4, seed=seed)

    return [
        Study(
            name="DALES objects",
            told="seen by airborne laser scanning; 8 copies of each training object, "
            "each turned about the vertical axis by any angle; splits by the seed",
            read=scanned,
            like=HERE,
            training=replace(HERE_TRAINING, epochs=10, warmup_epochs=1.0),
            angles=SPACE,
        ),
        Study(
            name="MNIST digits",
            told="drawn by brightness; 4 copies of each training digit, never turned",
            read=written,
            like=HERE,
            training=replace(HERE_TRAINING, epochs=8),
            angles=PLANE,
        ),
    ]


def _paper(work: Workshop) -> list[Study]:
    return [
        Study(
            name="ModelNet40",
            told="as published, each object centred and scaled; nothing is augmented",
            read=lambda _: _modelnet(work),
            like=AttentiveConfig(
                tokenizer=TokenizerConfig(kind="points", width=256), classes=40
            ),
            training=PAPER_TRAINING,
            angles=SPACE,
        )
    ]


def _solids(seed: int) -> Dataset:
    """A few generated solids."""
    made = assemble(make_solids(200, points=64, seed=seed), seed=seed)
    return drawn(made, points=32, copies=2, turned=True, seed=seed)


def _digits(seed: int) -> Dataset:
    """A few of scikit-learn's digits as points."""
    whole = data.load("points:digits")
    few = replace(whole, train=whole.train.take(range(200)))
    few = replace(few, test=whole.test.take(range(100)))
    return drawn(few, points=32, seed=seed)


def _modelnet(work: Workshop) -> Dataset:
    """The folder of meshes as its authors publish it, each centred and scaled to 1."""
    folder = (work.files or Path()) / "ModelNet40"
    if work.files is None or not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder, which scale paper needs; unpack ModelNet40.zip "
            "of https://modelnet.cs.princeton.edu into the folder of --data"
        )
    read = data.load(folder)
    train, val, test = (centred(split) for split in (read.train, read.val, read.test))
    return replace(read, train=train, val=val, test=test)


def fitted(like: AttentiveConfig, dataset: Dataset) -> AttentiveConfig:
    """The circuit for these points' features and classes."""
    tokenizer = replace(like.tokenizer, features=dataset.shape[1] - 3)
    return replace(like, tokenizer=tokenizer, classes=dataset.outputs)


def arms(like: AttentiveConfig, dataset: Dataset) -> list[Arm]:
    """The circuit, Perceiver IO as wide and as large, and a Transformer as large."""
    circuit = fitted(like, dataset)
    wanted = count_parameters(lookup("attentive").build(circuit))
    transformer = TransformerConfig(
        tokenizer=circuit.tokenizer,
        classes=dataset.outputs,
        width=like.width,
        layers=like.layers,
        heads=like.heads,
    )
    return [
        Arm(name=CIRCUIT, model="attentive", sizes=circuit),
        *perceivers(circuit),
        Arm(
            name="Transformer, wider",
            model="transformer",
            sizes=same_size("transformer", transformer, wanted),
        ),
    ]
