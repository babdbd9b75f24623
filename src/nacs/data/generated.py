"""Series that are made, not measured: two probes of ability, and digits as events.

| name               | a series                               | asked           |
|--------------------|----------------------------------------|-----------------|
| associative-recall | 16 keys with values, then a key alone  | that key's value|
| integral           | an irregularly sampled smooth function | its integral    |
| event-mnist        | runs of dark and light along the rows  | which digit     |

References:
    Lechner, Hasani, Learning Long-Term Dependencies in Irregularly-Sampled Time Series,
    2020 (event-based MNIST). https://arxiv.org/abs/2006.04418
"""

from dataclasses import replace

import numpy as np

from nacs.data.base import Array
from nacs.data.splits import Samples
from nacs.errors import UserError

__all__ = ["as_events", "make_integral", "make_recall"]

LIGHT = 128
"""A pixel from here on, of 255, is light."""


def make_recall(
    samples: int = 3000, *, keys: int = 16, values: int = 8, seed: int = 0
) -> Samples:
    """Keys in random order, each with a value, then one of the keys again, without.

    Columns: the place in the series as time, a one-hot key, a one-hot value (all 0 in
    the last row). A mean of the values tells nothing of the one asked for.

    Args:
        samples: How many series.
        keys: How many keys, each once.
        values: Kinds of values, the classes.
        seed: Of the draw.
    """
    random = np.random.default_rng(seed)
    order = np.argsort(random.random((samples, keys)), axis=1)
    told = random.integers(values, size=(samples, keys))
    asked = random.integers(keys, size=samples)
    series = np.zeros((samples, keys + 1, 1 + keys + values))
    series[:, :, 0] = np.arange(keys + 1)
    series[:, :-1, 1 : 1 + keys] = np.eye(keys)[order]
    series[:, :-1, 1 + keys :] = np.eye(values)[told]
    rows = np.arange(samples)
    series[rows, -1, 1 + order[rows, asked]] = 1
    return Samples(
        name="associative-recall",
        kind="series",
        inputs=series,
        targets=told[rows, asked].astype(np.int64),
        ids=rows.astype(str),
        classes=tuple(map(str, range(values))),
    )


def make_integral(samples: int = 3000, *, count: int = 64, seed: int = 0) -> Samples:
    """Random smooth functions, seen at times that crowd in places, and their integrals.

    f(t) = Σ_k a_k cos(2πkt) + b_k sin(2πkt) for k = 0 … 4, seen on [0, 1] at times
    drawn from two crowds and a few in between. The target is ∫f dt, which is a₀, of
    variance 1: the squared error of not looking at all.

    Args:
        samples: How many series.
        count: Observations in a series.
        seed: Of the draw.
    """
    random = np.random.default_rng(seed)
    waves = np.arange(1, 5)
    shift = random.normal(size=samples)
    cosine, sine = random.normal(size=(2, samples, len(waves)))
    crowd = random.random((samples, 2))
    which = random.integers(2, size=(samples, count))
    times = crowd[np.arange(samples)[:, None], which]
    times = times + 0.08 * random.normal(size=times.shape)
    lonely = random.random((samples, count)) < 0.3
    times = np.where(lonely, random.random((samples, count)), times) % 1
    times.sort(axis=1)
    phase = 2 * np.pi * times[..., None] * waves
    seen = (cosine[:, None] * np.cos(phase) + sine[:, None] * np.sin(phase)).sum(-1)
    series = np.stack([times, seen + shift[:, None]], -1)
    return Samples(
        name="integral",
        kind="series",
        inputs=series,
        targets=shift.astype(np.float32),
        ids=np.arange(samples).astype(str),
    )


def as_events(samples: Samples) -> Samples:
    """Grey images as series of runs: where a run of equal pixels ends, and its shade.

    An image is read row by row. Time is the share of it that has been read, 0 to 1; the
    value is 1 for a light run, 0 for a dark one. So 784 pixels become some 50 events.

    Raises:
        UserError: If the samples are no grey images.
    """
    images = np.asarray(samples.inputs)
    if samples.kind != "image" or images.shape[1] != 1 or images.dtype != np.uint8:
        raise UserError(
            f"{samples.name}: events are made of grey images of 8 bits, got "
            f"{samples.kind} of shape {images.shape[1:]} and {images.dtype}"
        )
    flat = images.reshape(len(images), -1) >= LIGHT
    events = [_runs(pixels) for pixels in flat]
    return replace(samples, name=f"events:{samples.name}", kind="series", inputs=events)


def _runs(pixels: Array) -> Array:
    """(runs, 2): where each run ends, as a share of all pixels, and its shade."""
    ends = np.flatnonzero(np.diff(pixels, append=not pixels[-1]))
    shades = pixels[ends].astype(np.float64)
    return np.stack([(ends + 1) / len(pixels), shades], -1)
