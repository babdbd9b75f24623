"""Arrays in memory, as users of scikit-learn and aeon have them, as samples of a kind.

(samples, features)                   a table: a feature a token, or a step of a series
(samples, channels, time)             series, as aeon has them
[(time, channels) or (time,), …]      ragged series; aeon's (channels, time) as well
(samples, height, width, channels)    images
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nacs.data.base import Array, Dataset, Kind, Split
from nacs.data.splits import CONSTANT, PARTS, Samples, assemble, check_sample
from nacs.data.unlabelled import SCALES
from nacs.errors import UserError

__all__ = ["all_to_train", "arranged", "ragged_series", "times_first", "unlabelled"]


def ragged_series(values: Any, *, known: bool = False) -> list[Array] | None:
    """The series of a list as arrays of two axes; None for anything that is a table.

    Args:
        values: What may be a list of series.
        known: Whether a list is one of series, though all are of one length.

    Raises:
        UserError: A series has three axes or more, or none.
    """
    if not isinstance(values, list | tuple) or not len(values):
        return None
    shapes = [np.shape(each) if _is_even(each) else () for each in values]
    alike = {len(shape) for shape in shapes} != {2} and len(set(shapes)) == 1
    if alike and not known:
        return None
    wrong = [row for row, shape in enumerate(shapes) if len(shape) not in (1, 2)]
    if wrong:
        raise UserError(
            f"series {wrong[0]}: expected (time, channels) or (time,), got shape "
            f"{shapes[wrong[0]]}"
        )
    series = [np.asarray(each, dtype=np.float64) for each in values]
    return [each[:, None] if each.ndim == 1 else each for each in series]


def _is_even(values: Any) -> bool:
    """Whether an array can be made of values without padding."""
    try:
        np.asarray(values)
    except ValueError:
        return False
    return True


def times_first(series: Sequence[Array]) -> bool:
    """Whether ragged series are (time, channels), not (channels, time) as aeon's.

    Channels are what all have as many of; where both axes qualify, they come last.

    Raises:
        UserError: The series differ in both.
    """
    rows, columns = ({each.shape[axis] for each in series} for axis in (0, 1))
    if len(columns) > 1 < len(rows):
        raise UserError(
            "expected series of as many channels each, (time, channels) or (channels, "
            f"time), got shapes {series[0].shape} and "
            f"{next(e.shape for e in series if e.shape != series[0].shape)}"
        )
    return len(columns) == 1


def arranged(
    values: Array | list[Array],
    *,
    columns_are_steps: bool,
    time_first: bool = True,
    time_channel: int | None = None,
) -> tuple[Kind, Array | list[Array]]:
    """Samples in the shapes of `nacs.data.base.Split`, and of what kind they are.

    Args:
        values: In one of the shapes at the top of this file.
        columns_are_steps: Whether a table is series of one channel.
        time_first: Of series in a list, see `times_first`.
        time_channel: Which channel of a series is its time stamps; None: there are
            none, and observations are a step apart.

    Raises:
        UserError: No such shape, or no such channel.
    """
    if isinstance(values, list):
        series = values if time_first else [each.T for each in values]
        return "series", [_timed(each, time_channel) for each in series]
    if values.ndim == 2 and not columns_are_steps:
        return "image", values.astype(np.float64)[:, None, None, :]
    if values.ndim in (2, 3):
        whole = values[..., None] if values.ndim == 2 else values.swapaxes(1, 2)
        timed = [_timed(each.astype(np.float64), time_channel) for each in whole]
        return "series", np.stack(timed)
    if values.ndim == 4:
        return "image", np.ascontiguousarray(np.moveaxis(values, -1, 1))
    raise UserError(
        "expected (samples, features), (samples, channels, time), (samples, height, "
        f"width, channels) or a list of series, got shape {values.shape}"
    )


def _timed(series: Array, channel: int | None) -> Array:
    """(time, 1 + values) from (time, channels): the time comes first."""
    if channel is None:
        steps = np.arange(len(series), dtype=np.float64)
        return np.concatenate([steps[:, None], series], axis=1)
    count = series.shape[1]
    if not -count <= channel < count or count < 2:
        raise UserError(
            f"`time_channel` must be one of two or more channels, got {channel} of "
            f"{count}"
        )
    rest = np.delete(series, channel, axis=1)
    return np.concatenate([series[:, [channel]], rest], axis=1)


def all_to_train(
    name: str,
    kind: Kind,
    inputs: Array | list[Array],
    targets: Array,
    *,
    classes: tuple[str, ...] = (),
    like: Split | None = None,
) -> Dataset:
    """A data set whose training split is all there is.

    Its validation and test split are the first sample once more: figures on them mean
    nothing.

    Args:
        name: What error messages begin with.
        kind: From `arranged`.
        inputs: From `arranged`.
        targets: (samples,) int64 classes, or float64 numbers.
        classes: Names of the classes; none for numbers.
        like: The split whose scales are used; None measures them.

    Raises:
        UserError: A sample or a target that no model could use.
    """
    again = np.r_[: len(inputs), 0, 0]
    samples = Samples(
        name=name,
        kind=kind,
        inputs=[inputs[i] for i in again]
        if isinstance(inputs, list)
        else inputs[again],
        targets=targets[again],
        ids=again.astype(str),
        classes=classes,
        parts=np.r_[np.zeros(len(inputs), np.int8), 1, 2],
    )
    dataset = assemble(samples, seed=0)
    like = _by_column(dataset.train) if like is None else like
    scales = {each: getattr(like, each) for each in SCALES}
    train, val, test = (replace(getattr(dataset, part), **scales) for part in PARTS)
    return replace(dataset, train=train, val=val, test=test)


def _by_column(train: Split) -> Split:
    """A table with a scale for every column; anything else as it is."""
    inputs = train.inputs
    if not isinstance(inputs, np.ndarray) or inputs.shape[1:3] != (1, 1):
        return train
    mean, deviation = inputs.mean(0), inputs.std(0)
    constant = deviation <= CONSTANT * np.abs(mean)
    return replace(train, mean=mean, deviation=np.where(constant, 1, deviation))


def unlabelled(kind: Kind, inputs: Array | list[Array], like: Split) -> Split:
    """Samples to be answered, scaled as those of another split were.

    Raises:
        UserError: They are not shaped as those were, or no model could use them.
    """
    known = np.asarray(like.inputs[0])
    axis = 1 if kind == "series" else 0
    for row, each in enumerate(inputs):
        if each.ndim != known.ndim or each.shape[axis:] != known.shape[axis:]:
            raise UserError(
                f"sample {row}: expected the shape of the samples of training, "
                f"{known.shape}, got {each.shape}"
            )
        check_sample(f"sample {row}", kind, each)
    count = len(inputs)
    return replace(like, inputs=inputs, targets=np.zeros(count), ids=np.arange(count))
