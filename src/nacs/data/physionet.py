"""Intensive care stays as irregular series: who dies in hospital.

References:
    Silva et al., Predicting in-hospital mortality of ICU patients, PhysioNet/Computing
    in Cardiology Challenge 2012. https://physionet.org/content/challenge-2012
"""

from itertools import pairwise
from pathlib import Path

import numpy as np

from nacs.data.base import Array
from nacs.data.splits import Samples
from nacs.errors import UserError

__all__ = ["KEYS", "read_stays"]

KEYS = ("minute", "param", "params", "value", "offsets", "outcomes", "outcome_cols")
"""Arrays of such a file: one observation a row, and one stay a row of outcomes."""

DEATH = "in_hospital_death"
UNKNOWN = ("Height", "Weight", "Gender")
"""Variables in which -1 means that nobody wrote them down."""


def read_stays(arrays: dict[str, Array], path: Path) -> Samples:
    """One series a stay: a row a minute at which anything was measured.

    Time is in hours; a column a variable, NaN where it was not measured. Of the
    outcomes only death in hospital is read, as the label: none may be an input.

    Args:
        arrays: With the `KEYS`.
        path: For messages.

    Raises:
        UserError: If the arrays contradict each other.
    """
    named = [str(name) for name in arrays["params"]]
    columns = [str(name) for name in arrays["outcome_cols"]]
    if DEATH not in columns:
        raise UserError(
            f"{path}: expected an outcome {DEATH}, got {', '.join(columns)}"
        )
    minute, param, offsets = (arrays[key] for key in ("minute", "param", "offsets"))
    value = arrays["value"].astype(np.float64)
    if not len(minute) == len(param) == len(value) == offsets[-1]:
        raise UserError(
            f"{path}: expected minute, param and value of {offsets[-1]} rows, got "
            f"{len(minute)}, {len(param)} and {len(value)}"
        )
    hidden = np.isin(param, [i for i, name in enumerate(named) if name in UNKNOWN])
    value[hidden & (value < 0)] = np.nan
    used = [i for i, name in enumerate(named) if name != "RecordID"]
    names = tuple(named[i] for i in used)
    place = np.zeros(len(named), np.int64)  # RecordID says who, and is no column
    place[used] = np.arange(len(used))
    value[~np.isin(param, used)] = np.nan
    param = place[param]
    stays = [
        _series(minute[a:b], param[a:b], value[a:b], len(names))
        for a, b in pairwise(offsets)
    ]
    died = arrays["outcomes"][:, columns.index(DEATH)].astype(np.int64)
    ids = arrays.get("record_id", np.arange(len(died)))
    return Samples(
        name=str(path),
        kind="series",
        inputs=stays,
        targets=died,
        ids=ids.astype(str),
        classes=("survived", "died"),
        columns=names,
        groups=ids,
    )


def _series(minute: Array, param: Array, value: Array, width: int) -> Array:
    """(minutes, 1 + width): the time in hours, and what was measured then."""
    times, row = np.unique(minute, return_inverse=True)
    series = np.full((len(times), 1 + width), np.nan)
    series[:, 0] = times / 60
    seen = ~np.isnan(value)
    series[row[seen], 1 + param[seen]] = value[seen]
    return series
