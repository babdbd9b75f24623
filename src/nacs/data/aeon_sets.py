"""Published series that ship inside aeon's wheel, so that nothing is downloaded.

References:
    Middlehurst et al., aeon: a Python toolkit for learning from time series, 2024.
    Kudo, Toyama, Shimbo, Japanese Vowels, 1999 (nine speakers, 12 cepstra, ragged).
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from nacs.data.base import Array
from nacs.data.splits import PARTS, Samples, encode_labels
from nacs.errors import UserError

__all__ = ["SHIPPED", "read_shipped"]

SHIPPED = {
    "japanese-vowels": "JapaneseVowels",
    "basic-motions": "BasicMotions",
    "gun-point": "GunPoint",
    "arrow-head": "ArrowHead",
    "osu-leaf": "OSULeaf",
    "italy-power-demand": "ItalyPowerDemand",
    "acsf1": "ACSF1",
    "pickup-gesture": "PickupGestureWiimoteZ",
}
"""Our name: aeon's."""


def read_shipped(name: str) -> Samples:
    """Read a set in the split of its publisher; time is the number of the step.

    Raises:
        UserError: If aeon is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numba and of aeon's own imports
            from aeon.datasets import load_classification  # pyright: ignore
    except ImportError as error:
        raise UserError(
            f"{name}: needs aeon; run pip install 'nacs[series]'"
        ) from error
    inputs: list[Array] = []
    labels: list[str] = []
    parts: list[int] = []
    for part in ("train", "test"):
        found: Any = load_classification(SHIPPED[name], split=part)
        inputs += [_series(each) for each in found[0]]
        labels += [str(label) for label in found[1]]
        parts += [PARTS.index(part)] * len(found[1])
    targets, classes = encode_labels(labels)
    return Samples(
        name=name,
        kind="series",
        inputs=inputs,
        targets=targets,
        ids=np.array([f"{PARTS[part]} {row}" for row, part in enumerate(parts)]),
        classes=classes,
        parts=np.array(parts, np.int8),
    )


def _series(channels: Sequence[Any]) -> Array:
    """(time, 1 + channels) from (channels, time)."""
    values = np.asarray(channels, dtype=np.float64).T
    return np.concatenate([np.arange(len(values))[:, None], values], axis=1)
