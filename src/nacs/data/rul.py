"""Remaining useful life: windows of sensor readings, machines held out whole.

The released labels are linear in a column Time that stands among the inputs: whoever
copies it scores perfectly. Here time runs within a window only, and no column that
knows the age of the machine is an input.

References:
    Saxena et al., Damage propagation modeling for aircraft engine run-to-failure
    simulation, PHM 2008 (C-MAPSS).
    Wang et al., XJTU-SY bearing data sets, 2020; Nectoux et al., PRONOSTIA, 2012.
"""

from pathlib import Path

import numpy as np

from nacs.data.base import Array
from nacs.data.splits import PARTS, Samples
from nacs.errors import UserError

__all__ = ["ENGINES", "is_bearings", "read_bearings", "read_engines"]

ENGINES = ("train", "test", "rul_test")
"""Arrays of a C-MAPSS file: rows of engine, cycle, 3 settings, 21 sensors."""

KNOWS_AGE = {"Time", "Degradation", "RUL", "RPM", "Load"}
"""Columns of a bearing that tell its age, or which experiment it is."""

WINDOW = 30
"""Rows of a window."""

LONGEST = 125
"""Cycles; a young engine has no more to tell, so its remaining life counts as this."""


def read_engines(arrays: dict[str, Array], path: Path) -> Samples:
    """C-MAPSS: every fifth window of a training engine, the last of a test engine.

    The target is the remaining life in cycles, at most 125. Engines are held out whole,
    and the test engines are those of the publisher.

    Args:
        arrays: With the `ENGINES`.
        path: For messages.

    Raises:
        UserError: If the arrays are no such file.
    """
    train, test, left = (arrays[key] for key in ENGINES)
    for name, rows in (("train", train), ("test", test)):
        if rows.ndim != 2 or rows.shape[1] != 26:
            raise UserError(
                f"{path}: expected {name} of 26 columns (engine, cycle, 3 settings, 21 "
                f"sensors), got shape {rows.shape}"
            )
    inputs: list[Array] = []
    targets: list[float] = []
    names: list[tuple[int, str]] = []
    for part, rows in ((0, train), (2, test)):
        for place, engine in enumerate(np.unique(rows[:, 0])):
            life = rows[rows[:, 0] == engine][:, 2:]
            last = 0 if part == 0 else int(left[place])
            ends = range(len(life), 0, -5) if part == 0 else [len(life)]
            for end in ends:
                if part == 0 and end < WINDOW:
                    break
                inputs.append(_window(life, end))
                targets.append(min(LONGEST, len(life) - end + last))
                names.append((part, f"{PARTS[part]} engine {engine:g}"))
    ids = np.array([f"{name}, window {row}" for row, (_, name) in enumerate(names)])
    return Samples(
        name=str(path),
        kind="series",
        inputs=inputs,
        targets=np.array(targets, np.float32),
        ids=ids,
        parts=np.array([part for part, _ in names], np.int8),
        scores=("asymmetric_score",),
        groups=np.array([name for _, name in names]),
        columns=tuple(f"setting {i}" for i in (1, 2, 3))
        + tuple(f"sensor {i}" for i in range(1, 22)),
    )


def is_bearings(arrays: dict[str, Array]) -> bool:
    """Whether every array is a table of a bearing or the names of its columns."""
    names = {key.removesuffix("__cols") for key in arrays}
    return bool(names) and all({n, f"{n}__cols"} <= set(arrays) for n in names)


def read_bearings(arrays: dict[str, Array], path: Path) -> Samples:
    """Bearings: windows of the features of their vibration, bearings held out whole.

    The target is the share of its life that a bearing has left at the window's end.

    Args:
        arrays: A table a bearing, and its columns under the name and __cols.
        path: For messages.

    Raises:
        UserError: If a table has no row enough, or bearings share no columns.
    """
    bearings = sorted(key.removesuffix("__cols") for key in arrays if "__cols" in key)
    columns = [[str(c) for c in arrays[f"{name}__cols"]] for name in bearings]
    shared = [c for c in columns[0] if all(c in each for each in columns[1:])]
    shared = [c for c in shared if c not in KNOWS_AGE]
    if not shared:
        raise UserError(f"{path}: expected columns that all bearings have, got none")
    inputs: list[Array] = []
    targets: list[float] = []
    names: list[str] = []
    for name, own in zip(bearings, columns, strict=True):
        life = arrays[name][:, [own.index(c) for c in shared]]
        if len(life) < WINDOW:
            raise UserError(f"{path}: {name}: expected {WINDOW} rows, got {len(life)}")
        for end in range(len(life), WINDOW - 1, -2 * WINDOW):
            inputs.append(_window(life, end))
            targets.append((len(life) - end) / (len(life) - 1))
            names.append(name)
    return Samples(
        name=str(path),
        kind="series",
        inputs=inputs,
        targets=np.array(targets, np.float32),
        ids=np.array([f"{name}, window {row}" for row, name in enumerate(names)]),
        groups=np.array(names),
        columns=tuple(shared),
    )


def _window(life: Array, end: int) -> Array:
    """The rows before `end` under a time that begins with the window."""
    rows = life[max(0, end - WINDOW) : end].astype(np.float64)
    return np.concatenate([np.arange(len(rows))[:, None], rows], axis=1)
