"""From samples as a reader found them to a `Dataset`: check, split, measure.

Splits are drawn by seed, class by class, so that every split has the classes in the
proportions of the whole; samples of one group (a patient, a recording) stay together.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from nacs.data.base import Array, Dataset, Kind, Split
from nacs.data.stored import Stored, probe
from nacs.errors import UserError

__all__ = [
    "PARTS",
    "Samples",
    "assemble",
    "check_sample",
    "encode_labels",
    "split_parts",
]

PARTS = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
CHUNK, LARGEST = 4096, np.finfo(np.float32).max
CONSTANT = 1e-10
"""A deviation below this share of the mean is rounding, not spread."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Samples:
    """What a reader returns: samples in file order, not yet split."""

    name: str
    """The path or the name it was read from; error messages begin with it."""

    kind: Kind
    """What one sample is."""

    inputs: Array | list[Array] | Stored
    """See `Split.inputs`; a list whose samples all have one shape is stacked."""

    targets: Array
    """See `Split.targets`."""

    ids: Array
    """(samples,) strings."""

    classes: tuple[str, ...] = ()
    """Names of the classes; empty for regression."""

    columns: tuple[str, ...] = ()
    """Names of the values of a series, where the table has some."""

    frame: tuple[int, ...] = ()
    """Channels, height and width of one of the frames."""

    scores: tuple[str, ...] = ()
    """What is measured beside the usual; see `nacs.metrics.SCORES`."""

    contexts: list[Array] | None = None
    """See `Split.contexts`."""

    context: Kind | None = None
    """What a context is: bytes or tokens; None: there is none."""

    parts: Array | None = None
    """(samples,) 0 train, 1 val, 2 test where the publisher fixed it."""

    groups: Array | None = None
    """(samples,) whatever may not be torn apart; equal values stay together."""

    fractions: tuple[float, float] = field(default=(0.1, 0.2))
    """Shares of validation and test where the publisher fixed none."""


def split_parts(
    targets: Array,
    *,
    seed: int,
    fractions: tuple[float, float] = (0.1, 0.2),
    groups: Array | None = None,
) -> Array:
    """Assign every sample to a split, stratified by class, the same for one seed.

    A class with at least three samples (or groups) is in every split with a share above
    0; smaller ones go to training. A group counts in the class of its first sample.

    Args:
        targets: (samples,) integer classes; floats are not stratified.
        seed: Decides the draw.
        fractions: Shares of validation and test.
        groups: (samples,) values; samples with equal values stay together.

    Returns:
        (samples,) int8, positions in `PARTS`.

    Example:
        >>> np.bincount(split_parts(np.arange(20) % 2, seed=0)).tolist()
        [14, 2, 4]
    """
    names = np.arange(len(targets)) if groups is None else groups
    _, first, unit = np.unique(names, return_index=True, return_inverse=True)
    classified = targets.dtype.kind in "iu"
    strata = targets[first] if classified else np.zeros(len(first), dtype=np.int64)
    parts = np.full(len(first), TRAIN, dtype=np.int8)
    random = np.random.default_rng(seed)
    for stratum in np.unique(strata):
        members = random.permutation(np.flatnonzero(strata == stratum))
        if len(members) < len(PARTS):
            continue
        shares = [share * len(members) for share in fractions]
        val, test = (max(1, round(share)) if share else 0 for share in shares)
        parts[members[:test]] = TEST
        parts[members[test : test + val]] = VAL
    return parts[unit]


def encode_labels(values: list[str]) -> tuple[Array, tuple[str, ...]]:
    """Number the classes: in numeric order if all are integers, else alphabetically.

    Returns:
        targets (samples,) int64, and the names of the classes.

    Example:
        >>> encode_labels(["10", "9", "10"])
        (array([1, 0, 1]), ('9', '10'))
    """
    names = set(values)
    numeric = all(name.removeprefix("-").isdecimal() for name in names)
    classes = sorted(names, key=lambda name: (int(name), name) if numeric else name)
    number = {name: position for position, name in enumerate(classes)}
    return np.array([number[value] for value in values], np.int64), tuple(classes)


def assemble(samples: Samples, *, seed: int) -> Dataset:
    """Check samples, split them and measure the training mean and deviation.

    A split fixed by the publisher is kept. Where only `val` is fixed beside `train` it
    becomes the test split, and a new validation split is drawn from training, because
    early stopping must never look at the test split.

    Args:
        samples: What a reader returned.
        seed: Draws the splits the publisher did not fix.

    Raises:
        UserError: too few samples, NaN, labels out of range, lengths that differ.
    """
    inputs = samples.inputs
    if samples.kind != "frames":  # which are views of a recording
        inputs = _stacked(inputs)
    _check(samples, inputs)
    parts = _parts(samples, seed)
    counts = np.bincount(parts, minlength=len(PARTS))
    if counts.min() == 0:
        found = ", ".join(f"{n} {part}" for n, part in zip(counts, PARTS, strict=True))
        raise UserError(
            f"{samples.name}: expected samples for train, val and test, got {found}; "
            "give at least 3 samples of a class"
        )
    if samples.classes:
        _check_classes(samples, parts)
    whole = Split(inputs, samples.targets, samples.ids, contexts=samples.contexts)
    splits = [whole.take(np.flatnonzero(parts == part)) for part in range(len(PARTS))]
    seen = probe(splits[TRAIN].inputs)
    if samples.kind == "frames":
        mean, deviation = _frame_statistics(seen, samples.frame)
    else:
        mean, deviation = _statistics(samples.kind, seen)
    target_mean, target_deviation = _target_statistics(splits[TRAIN].targets)
    train, val, test = (
        replace(
            split,
            mean=mean,
            deviation=deviation,
            target_mean=target_mean,
            target_deviation=target_deviation,
            scores=samples.scores,
        )
        for split in splits
    )
    return Dataset(
        name=samples.name,
        kind=samples.kind,
        train=train,
        val=val,
        test=test,
        classes=samples.classes,
        columns=samples.columns,
        frame=samples.frame,
        context=samples.context,
    )


def _stacked(inputs: Array | list[Array] | Stored) -> Array | list[Array] | Stored:
    """Turn a list of equal shapes into one array; leave a ragged one alone."""
    if isinstance(inputs, list) and len({each.shape for each in inputs}) == 1:
        return np.stack(inputs)
    return inputs


def _check(samples: Samples, inputs: Array | list[Array] | Stored) -> None:
    """Raise UserError for whatever no model could use."""
    name, targets = samples.name, samples.targets
    if not len(inputs):
        raise UserError(f"{name}: expected samples, got none")
    if len(inputs) != len(targets):
        raise UserError(
            f"{name}: expected a label for each sample, got {len(targets)} labels for "
            f"{len(inputs)} samples"
        )
    if samples.contexts is not None:
        _check_contexts(samples, samples.contexts)
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        row = int(np.argwhere(~np.isfinite(targets))[0][0])
        raise UserError(f"{name}: target of row {row} is NaN or infinite; remove it")
    if samples.classes:
        wrong = (targets < 0) | (targets >= len(samples.classes))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise UserError(
                f"{name}: label {targets[row]} of row {row} is out of range; expected "
                f"0 to {len(samples.classes) - 1}"
            )
    _check_inputs(samples, inputs)


def _check_inputs(samples: Samples, inputs: Array | list[Array] | Stored) -> None:
    """Check all samples, but those that lie on disk, which are checked when read."""
    if isinstance(inputs, Stored):
        return
    for start in range(0, len(inputs), CHUNK):
        chunk = inputs[start : start + CHUNK]
        if isinstance(chunk, list) or not _clean(samples, chunk):
            for row, sample in enumerate(chunk, start):
                where = f"{samples.name}: sample {samples.ids[row]}"
                check_sample(where, samples.kind, sample)


def _check_contexts(samples: Samples, contexts: list[Array]) -> None:
    """Raise UserError unless every sample has a context of one symbol or more."""
    if samples.context not in ("bytes", "tokens"):
        raise UserError(
            f"{samples.name}: expected contexts of bytes or tokens, got "
            f"{samples.context}"
        )
    if len(contexts) != len(samples.targets):
        raise UserError(
            f"{samples.name}: expected a context for each sample, got {len(contexts)} "
            f"contexts for {len(samples.targets)} samples"
        )
    for name, each in zip(samples.ids, contexts, strict=True):
        if each.ndim != 1 or not len(each) or each.dtype.kind not in "iu":
            raise UserError(
                f"{samples.name}: context of sample {name}: expected one symbol or "
                f"more, got shape {each.shape} of {each.dtype}"
            )


def _clean(samples: Samples, chunk: Array) -> bool:
    """Whether a chunk needs no look at its samples one by one."""
    finite = chunk.dtype.kind != "f" or bool(np.isfinite(chunk).all())
    return bool(chunk.size) and finite and samples.kind != "series"


def check_sample(where: str, kind: Kind, sample: Array) -> None:
    """Raise UserError for an empty sample, NaN, or time that runs backwards."""
    if sample.size == 0:
        raise UserError(f"{where} is empty; remove it")
    if sample.dtype.kind != "f":
        return
    if kind != "series" and not np.isfinite(sample).all():
        raise UserError(f"{where} has NaN or infinite values; remove or fill them")
    if kind not in {"series", "frames"}:
        return
    time = sample[:, 0]
    if not np.isfinite(time).all() or (np.abs(sample) > LARGEST).any():
        raise UserError(
            f"{where}: expected finite times and values, got NaN in time, infinity or "
            "more than float32 holds; only values may be NaN, which means missing"
        )
    if (np.diff(time) < 0).any():
        row = int(np.flatnonzero(np.diff(time) < 0)[0]) + 1
        raise UserError(
            f"{where}: time runs backwards at row {row} ({time[row]:g} after "
            f"{time[row - 1]:g}); sort the rows by time"
        )


def _parts(samples: Samples, seed: int) -> Array:
    """Return the publisher's split, completed by draws where a part is missing."""
    targets, groups, fractions = samples.targets, samples.groups, samples.fractions
    if samples.parts is None:
        return split_parts(targets, seed=seed, fractions=fractions, groups=groups)
    parts = samples.parts.astype(np.int8)
    if not (parts == TEST).any() and (parts == VAL).any():
        parts[parts == VAL] = TEST
    val = 0.0 if (parts == VAL).any() else fractions[0]
    test = 0.0 if (parts == TEST).any() else fractions[1]
    train = np.flatnonzero(parts == TRAIN)
    parts[train] = split_parts(
        targets[train],
        seed=seed,
        fractions=(val, test),
        groups=None if groups is None else groups[train],
    )
    return parts


def _check_classes(samples: Samples, parts: Array) -> None:
    """Raise UserError where a class is tested but never trained on."""
    unseen = np.setdiff1d(
        samples.targets[parts != TRAIN], samples.targets[parts == TRAIN]
    )
    if len(unseen):
        names = ", ".join(samples.classes[int(i)] for i in unseen.tolist()[:3])
        raise UserError(
            f"{samples.name}: expected training samples of every class, got none of "
            f"{names}"
        )


def _statistics(
    kind: Kind, inputs: Array | list[Array]
) -> tuple[Array | None, Array | None]:
    """Return the mean and deviation that normalise a sample of this kind.

    Images: each channel. Points: coordinates keep their origin and share one scale, so
    that shapes stay undistorted; features each their own. Series: time starts at 0
    and a step of training takes 1 on average; values each channel their own, NaN left
    out.
    """
    if kind in ("bytes", "tokens"):
        return None, None
    if kind == "image":
        mean, deviation = _channel_statistics(np.asarray(inputs))
    else:
        rows: Array = np.concatenate([*inputs]).astype(np.float64)
        known = ~np.isnan(rows)
        counts = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, rows, 0).sum(axis=0) / counts
        squares = np.where(known, (rows - mean) ** 2, 0).sum(axis=0)
        deviation = _spread(np.sqrt(squares / counts), mean)
        if kind == "points":
            mean[:3] = 0
            deviation[:3] = np.sqrt(np.mean(rows[:, :3] ** 2))
        else:
            steps = np.concatenate([np.diff(sample[:, 0]) for sample in inputs])
            mean[0] = rows[:, 0].min()
            deviation[0] = steps.mean() if len(steps) else 0
    deviation = np.where(deviation > 0, deviation, 1)  # a constant is left at 0
    precision = np.float64 if kind == "series" else np.float32
    return mean.astype(precision), deviation.astype(precision)


def _frame_statistics(
    inputs: Array | list[Array], frame: tuple[int, ...]
) -> tuple[Array, Array]:
    """Return (1 + channels,) mean and deviation: of the time, as for series, a channel.

    Window by window, because pixels in float64 take twice the memory of a recording.
    """
    pixels = [each[:, 1:].reshape(len(each), frame[0], -1) for each in inputs]
    count = sum(each.size for each in pixels) / frame[0]
    totals = [each.sum((0, 2), dtype=np.float64) for each in pixels]
    centre = np.sum(totals, axis=0) / count
    squares = [((each - centre[:, None]) ** 2).sum((0, 2)) for each in pixels]
    deviation = _spread(np.sqrt(np.sum(squares, axis=0) / count), centre)
    steps = np.concatenate([np.diff(each[:, 0].astype(np.float64)) for each in inputs])
    start = min(float(each[0, 0]) for each in inputs)
    deviation = np.array([steps.mean() if len(steps) else 0, *deviation])
    return np.array([start, *centre]), np.where(deviation > 0, deviation, 1)


def _target_statistics(targets: Array) -> tuple[Array | None, Array | None]:
    """Return mean and deviation of numbers to be predicted; classes have none."""
    if targets.dtype.kind != "f":
        return None, None
    axes = tuple(range(max(1, targets.ndim - 1)))
    mean = targets.mean(axis=axes, dtype=np.float64)
    deviation = _spread(targets.std(axis=axes, dtype=np.float64), mean)
    return np.asarray(mean), np.where(deviation > 0, deviation, 1)


def _channel_statistics(images: Array) -> tuple[Array, Array]:
    """Return mean and deviation of each channel, both (channels, 1, 1), chunk-wise."""
    scale, step = 255 if images.dtype == np.uint8 else 1, 1 + 2**22 // images[0].size
    axes, count = (0, 2, 3), images.size // images.shape[1]
    chunks = [images[i : i + step] for i in range(0, len(images), step)]
    mean = sum(np.sum(chunk / scale, axis=axes) for chunk in chunks) / count
    centre = np.reshape(mean, (-1, 1, 1))
    squares = sum(np.sum((c / scale - centre) ** 2, axis=axes) for c in chunks)
    return centre, _spread(np.sqrt(np.reshape(squares / count, (-1, 1, 1))), centre)


def _spread(deviation: Array, mean: Array) -> Array:
    """Return the deviation, exactly 0 where only rounding makes it more."""
    return np.where(deviation > CONSTANT * np.abs(mean), deviation, 0)
