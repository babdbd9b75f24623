"""What `rivals_table.py` compares: models, data sets, and how they are trained."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nacs import data
from nacs.data.base import Dataset, Split
from nacs.errors import UserError

__all__ = ["CHANGES", "TASKS", "Task", "load", "times_alone"]

CHANGES: dict[str, dict[str, Any]] = {
    "neuronal": {},
    "neuronal, paper": {
        "gate": "circuit",
        "start": "zero",
        "horizon": "gate",
        "integration": "gate",
        "logit_scale": False,
    },
    "neuronal, zero start": {"start": "zero"},
    "neuronal, elapsed": {"horizon": "elapsed"},
    "neuronal, quadrature": {"integration": "quadrature", "top_k": 0},
    "neuronal, 32 keys": {"top_k": 32},
    "neuronal, elapsed, 32 keys": {"horizon": "elapsed", "top_k": 32},
    "neuronal, all": {"top_k": 0},
    "neuronal, elapsed, all": {"horizon": "elapsed", "top_k": 0},
    "neuronal, gated, all": {"horizon": "gate", "top_k": 0},
    "top-k softmax": {"solver": "score"},
    "softmax, all": {"solver": "score", "top_k": 0},
    "uniform": {"solver": "uniform", "top_k": 0},
    "times alone": {},
}
"""Neuronal models by what differs in their attention; other names are rivals."""

USUAL = ("neuronal", "neuronal, paper", "neuronal, zero start", "neuronal, elapsed")
CONTROLS = ("top-k softmax", "uniform", "torch-nac", "multi-head", "gru")
EVERYONE = (
    *("neuronal", "neuronal, 32 keys", "neuronal, elapsed, 32 keys"),
    *("neuronal, paper", "top-k softmax", "uniform", "times alone"),
    *("multi-head", "torch-nac", "gru", "cfc", "mtan", "lstm", "rnn", "ct-rnn"),
    *("softmax, all", "neuronal, elapsed, all", "gru-ode", "phased-lstm"),
    *("contiformer", "ltc"),
)
"""The most telling first, so that a table that is cut short says what it can."""

CAUSAL = tuple(name for name in EVERYONE if name != "torch-nac")
"""Those that can answer frame by frame."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is compared, and how it is trained."""

    models: tuple[str, ...] = EVERYONE
    source: str = ""
    """A name that `nacs.data` knows, or a file in the folder of `--data`."""
    test: str = ""
    """Another such file, all of which is the test split."""
    score: str = "accuracy"
    preset: str = "tiny"
    pooling: str = "mean"
    length: int | None = None
    """Longest series; the rest is cut off."""
    window: int = 0
    """Series are cut into windows of so many steps; 0 leaves them whole."""
    epochs: int = 20
    batch: int = 64
    rates: tuple[float, ...] = (3e-3, 1e-2)
    """The best on the validation split of seed 0 is every seed's, model by model."""
    keep_best: bool = True
    """Whether the weights of the best validation epoch are tested, or the last."""
    equal: bool = True
    """Whether all models have the parameters of the largest; else those of `neuronal`,
    where CfC, LTC and torch-nac, which cannot be made as small, have more."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    drops: tuple[float, ...] = (0.3, 0.5, 0.7)
    """Shares of the observations that go at test time, for a table of their own."""


PROBE: dict[str, Any] = {
    "rates": (3e-3,),
    "keep_best": False,
    "drops": (),
    "equal": False,
}
TASKS = {
    "associative-recall": Task(
        models=(*USUAL, *CONTROLS), pooling="last", seeds=(0, 1, 2), **PROBE
    ),
    "integral": Task(
        models=("neuronal, quadrature", *USUAL, *CONTROLS, "mtan", "cfc"),
        score="loss",
        seeds=(0, 1, 2),
        **PROBE,
    ),
    "noisy-sensors": Task(
        models=(
            *("neuronal, elapsed, all", "neuronal, gated, all", "neuronal, all"),
            *("softmax, all", *USUAL, *CONTROLS, "mtan", "cfc"),
        ),
        score="loss",
        pooling="last",
        **PROBE,
    ),
    "japanese-vowels": Task(epochs=60, batch=16),
    "activity": Task(source="arem_activity.npz", window=96, epochs=20, batch=16),
    "engines": Task(source="cmapss_FD001.npz", score="rmse", epochs=8),
    "event-mnist": Task(epochs=20),
    "physionet": Task(
        source="physionet2012_set_a.npz",
        test="physionet2012_set_b.npz",
        score="auroc",
        length=96,
        epochs=8,
    ),
    "bearings": Task(source="bearing_rul_features.npz", score="rmse", epochs=8),
    "udacity": Task(
        models=CAUSAL,
        source="udacity_center_66x200.npz",
        score="rmse",
        epochs=20,
        batch=8,
        drops=(),
    ),
    "lane-keeping": Task(
        models=CAUSAL,
        source="car-racing",
        score="rmse",
        epochs=3,
        batch=8,
        drops=(),
    ),
}


def load(name: str, folder: Path, seed: int) -> Dataset:
    """The data set of a task; what its publisher did not split, the seed does.

    Raises:
        UserError: If a file is not in the folder.
    """
    task = TASKS[name]
    if not Path(task.source).suffix:
        found = data.load(task.source or name)
    else:
        for file in filter(None, (task.source, task.test)):
            if not (folder / file).exists():
                raise UserError(f"{folder / file}: no such file; say --data FOLDER")
        found = data.load(folder / task.source, seed=seed, length=task.length)
    if task.test:
        found = _tested_on(found, data.load(folder / task.test))
    if task.window:
        found = _each(found, lambda split: _windows(split, task.window))
    return found


def times_alone(dataset: Dataset) -> Dataset:
    """The same series without their values: times, and black frames."""

    def dark(split: Split) -> Split:
        frames = [np.where(np.arange(x.shape[1]) == 0, x, 0) for x in split.inputs]
        return replace(split, inputs=frames)

    def bare(split: Split) -> Split:
        scales = {
            key: None if (scale := getattr(split, key)) is None else scale[..., :1]
            for key in ("mean", "deviation")
        }
        return replace(split, inputs=[x[:, :1] for x in split.inputs], **scales)

    if dataset.kind == "frames":
        return _each(dataset, dark)
    return replace(_each(dataset, bare), columns=())


def _each(dataset: Dataset, change: Any) -> Dataset:
    parts = {n: change(getattr(dataset, n)) for n in ("train", "val", "test")}
    return replace(dataset, **parts)


def _tested_on(dataset: Dataset, other: Dataset) -> Dataset:
    """The test split becomes all of another set, on this one's scale."""
    if dataset.columns != other.columns:
        raise UserError(f"{other.name}: expected the columns of {dataset.name}")
    splits = (other.train, other.val, other.test)
    test = replace(
        dataset.test,
        inputs=[sample for split in splits for sample in split.inputs],
        targets=np.concatenate([split.targets for split in splits]),
        ids=np.concatenate([split.ids for split in splits]),
    )
    return replace(dataset, test=test)


def _windows(split: Split, steps: int) -> Split:
    """Whole windows of every series, one after another, each with its label."""
    cuts = [
        (row, start)
        for row, series in enumerate(split.inputs)
        for start in range(0, len(series) - steps + 1, steps)
    ]
    taken = split.take([row for row, _ in cuts])
    inputs = [split.inputs[row][start : start + steps].copy() for row, start in cuts]
    for series in inputs:
        series[:, 0] -= series[0, 0]
    ids = [
        f"{name}, step {start}"
        for name, (_, start) in zip(taken.ids, cuts, strict=True)
    ]
    return replace(taken, inputs=inputs, ids=np.array(ids))
