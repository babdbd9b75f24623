"""Data for a model that is trained: its own read again, or others in their place."""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from nacs.data import load
from nacs.data.base import Array, DataFacts, Dataset, Split
from nacs.data.unlabelled import check_like, check_shape, scales_of
from nacs.errors import UserError

__all__ = ["other_data", "own_data"]


def own_data(facts: DataFacts) -> Dataset:
    """The data of a run, with the splits and scales it was trained on.

    Args:
        facts: How they were read.

    Raises:
        UserError: They cannot be read, or are not those the run was trained on: its
            test split might hold what it has learned.
    """
    dataset = load(facts.source, size=facts.size, length=facts.length)
    found = dataset.facts
    for name in (each.name for each in fields(DataFacts) if each.name != "source"):
        was, now = getattr(facts, name), getattr(found, name)
        if not _same(was, now):
            raise UserError(
                f"{facts.source}: the data are no longer those of the training: "
                f"expected the {name} {was!r:.80}, got {now!r:.80}; put them back, or "
                "train again (nacs evaluate --data takes them as other data)"
            )
    return dataset


def other_data(source: str, facts: DataFacts) -> Dataset:
    """Other data, read, scaled and labelled as those of a run were.

    Args:
        source: A name or a path, as `nacs.data.load` takes it.
        facts: How the data of the run were read.

    Raises:
        UserError: They cannot be read, or are of another kind or shape, have other
            columns, or classes that the model does not know.
    """
    dataset = load(source, size=facts.size, length=facts.length)
    found = dataset.facts
    check_like(source, found.kind, found.columns, facts)
    check_shape(source, found.shape, facts)
    if np.shape(facts.target_mean) != np.shape(found.target_mean):
        raise UserError(
            f"{source}: expected targets of shape {np.shape(facts.target_mean)}, as in "
            f"training, got {np.shape(found.target_mean)}"
        )
    numbers: Array | None = None
    if facts.classes:
        unknown = [name for name in dataset.classes if name not in facts.classes]
        if unknown or not dataset.classes:
            raise UserError(
                f"{source}: expected the classes {_named(facts.classes)} as in "
                f"training, got {_named(unknown) or 'numbers'}"
            )
        numbers = np.array([facts.classes.index(name) for name in dataset.classes])
    elif dataset.classes:
        raise UserError(
            f"{source}: expected numbers as in training, got classes; give them as "
            "target, not as label"
        )

    def under(split: Split) -> Split:
        targets = split.targets if numbers is None else numbers[split.targets]
        return replace(split, targets=targets, **scales_of(facts))

    train, val, test = map(under, (dataset.train, dataset.val, dataset.test))
    classes = facts.classes
    return replace(dataset, train=train, val=val, test=test, classes=classes)


def _named(names: Any) -> str:
    return ", ".join(map(str, names))


def _same(was: Any, now: Any) -> bool:
    """Equal, but for how a processor rounds."""
    numbers = [np.asarray(each) for each in (was, now)]
    if any(each.dtype.kind not in "fiu" for each in numbers):
        return bool(was == now)
    one, other = numbers
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-5, atol=1e-8)
