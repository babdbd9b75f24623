"""Series that are made, not measured: two probes of ability, and digits as events.

| name               | a series                               | asked           |
|--------------------|----------------------------------------|-----------------|
| associative-recall | 16 keys with values, then a key alone  | that key's value|
| integral           | an irregularly sampled smooth function | its integral    |
| noisy-sensors      | sensors of a drifting quantity, gaps   | where it is now |
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

__all__ = [
    "as_events",
    "kalman",
    "make_integral",
    "make_recall",
    "make_sensors",
    "times_alone",
]

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


NOISE = (0.1, 0.5, 1.5)
"""Deviation of each sensor of `make_sensors`; that of the quantity is 1."""


def make_sensors(samples: int = 3000, *, count: int = 32, seed: int = 0) -> Samples:
    """An Ornstein–Uhlenbeck process seen by three sensors, and its value now.

        dx = −x dt + √2 dW,     y_i = x(t_i) + σ(sensor_i) · noise

    Observations come 0.3 apart on average, and one in ten gaps is ten times as long. A
    series begins anywhere in [0, 100]. Columns: time, one-hot sensor, value; the last
    row has a time alone: the target is x then. What an observation is worth depends on
    its sensor and its age, never on the time of day: `kalman` is the best there is.

    Args:
        samples: How many series.
        count: Observations in a series.
        seed: Of the draw.
    """
    random = np.random.default_rng(seed)
    gaps = random.exponential(0.3, (samples, count + 1))
    gaps *= np.where(random.random(gaps.shape) < 0.1, 10, 1)
    times = gaps.cumsum(1)
    x = np.empty((samples, count + 1))
    x[:, 0] = random.normal(size=samples)
    for step in range(1, count + 1):
        kept = np.exp(-gaps[:, step])
        fresh = np.sqrt(1 - kept**2) * random.normal(size=samples)
        x[:, step] = kept * x[:, step - 1] + fresh
    sensor = random.integers(len(NOISE), size=(samples, count))
    noise = np.array(NOISE)[sensor] * random.normal(size=sensor.shape)
    series = np.zeros((samples, count + 1, 2 + len(NOISE)))
    series[..., 0] = times + random.uniform(0, 100, (samples, 1))
    series[:, :-1, 1:-1] = np.eye(len(NOISE))[sensor]
    series[:, :-1, -1] = x[:, :-1] + noise
    return Samples(
        name="noisy-sensors",
        kind="series",
        inputs=series,
        targets=x[:, -1].astype(np.float32),
        ids=np.arange(samples).astype(str),
    )


def kalman(series: Array) -> float:
    """The best estimate of the value asked for by a series of `make_sensors`."""
    mean, variance = 0.0, 1.0
    before = series[0, 0]
    for row in series:
        kept = np.exp(-(row[0] - before))
        mean, variance, before = kept * mean, 1 - kept**2 * (1 - variance), row[0]
        if row[1:-1].any():
            gain = variance / (variance + NOISE[int(row[1:-1].argmax())] ** 2)
            mean, variance = mean + gain * (row[-1] - mean), (1 - gain) * variance
    return float(mean)


def as_events(samples: Samples) -> Samples:
    """Grey images as series of runs: where a run of equal pixels ends, and its shade.

    An image is read row by row. Time is the share of it that has been read, 0 to 1; the
    value is 1 for a light run, 0 for a dark one. So 784 pixels become some 50 events.

    Raises:
        UserError: If the samples are no grey images.
    """
    one = np.asarray(samples.inputs[0])
    if samples.kind != "image" or one.shape[0] != 1 or one.dtype != np.uint8:
        raise UserError(
            f"{samples.name}: events are made of grey images of 8 bits, got "
            f"{samples.kind} of shape {one.shape} and {one.dtype}"
        )
    images = np.asarray(samples.inputs)
    flat = images.reshape(len(images), -1) >= LIGHT
    events = [_runs(pixels) for pixels in flat]
    return replace(samples, name=f"events:{samples.name}", kind="series", inputs=events)


def times_alone(samples: Samples) -> Samples:
    """Series without their values: what a model scores that sees time stamps alone.

    Raises:
        UserError: If the samples are no series.
    """
    if samples.kind != "series":
        raise UserError(f"{samples.name}: expected series, got {samples.kind}")
    return replace(samples, inputs=[each[:, :1] for each in samples.inputs], columns=())


def _runs(pixels: Array) -> Array:
    """(runs, 2): where each run ends, as a share of all pixels, and its shade."""
    ends = np.flatnonzero(np.diff(pixels, append=not pixels[-1]))
    shades = pixels[ends].astype(np.float64)
    return np.stack([(ends + 1) / len(pixels), shades], -1)
